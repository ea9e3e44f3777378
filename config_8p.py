# GaitSet on CASIA-B, eight devices with one process each. The values are those of config_1p.py, except a few.
#
#   torchrun --nproc_per_node 8 train.py --config config_8p.py          40,000 iterations
#   python test.py --use_8p_model True
#
# The NPU port reports rank-1 NM 93.744 for this recipe, most likely including identical views.

import copy
import runpy
from pathlib import Path

conf_8p = copy.deepcopy(runpy.run_path(str(Path(__file__).with_name("config_1p.py")))["conf_1p"])
conf_8p["CUDA_VISIBLE_DEVICES"] = conf_8p["ASCEND_VISIBLE_DEVICES"] = "0,1,2,3,4,5,6,7"
# Compared with one process: eight times the batch, eight times the learning rate, half the iterations.
conf_8p["model"] |= {"lr": 8e-4, "total_iter": 40000}
