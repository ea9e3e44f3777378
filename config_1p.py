# GaitSet on CASIA-B, one device.
#
#   python train.py --config config_1p.py            80,000 iterations
#   python test.py  --config config_1p.py
#
# Published rank-1 of this recipe, identical views excluded: NM 94.964, BG 87.239, CL 70.355
# (included: 95.405, 88.284, 72.041). Every value can be overridden on the command line.
# Relative paths are relative to this file.

conf_1p = {
    "WORK_PATH": "./work",
    "CUDA_VISIBLE_DEVICES": "0",
    "ASCEND_VISIBLE_DEVICES": "0",
    "data": {
        # Output of pretreatment.py, an OpenGait pickle tree, or a packed store.
        "dataset_path": "./work/CASIA-B-pre",
        "resolution": "64",
        "dataset": "CASIA-B",
        # The first 73 sorted subjects train (005, whose data are incomplete, is left out), the others test.
        "pid_num": 73,
        "pid_shuffle": False,
    },
    "model": {
        "hidden_dim": 256,
        "lr": 1e-4,
        "hard_or_full_trip": "full",
        # P subjects × K sequences, per process.
        "batch_size": (8, 16),
        # 0: from the start; N: from the checkpoint of iteration N; -1: from the last there is.
        "restore_iter": 0,
        "total_iter": 80000,
        "margin": 0.2,
        "num_workers": 3,
        "frame_num": 30,
        "model_name": "GaitSet",
    },
}
