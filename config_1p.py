# GaitSet on CASIA-B, one device.
#
#   python train.py --config config_1p.py            80,000 iterations
#   python test.py  --config config_1p.py
#
# Published rank-1 of this recipe excluding identical views: NM 94.964, BG 87.239, CL 70.355;
# including identical views: NM 95.405, BG 88.284, CL 72.041.
# Every value can be overridden on the command line. Relative paths start at the folder of this file.

conf_1p = {
    "WORK_PATH": "./work",
    "CUDA_VISIBLE_DEVICES": "0",
    "ASCEND_VISIBLE_DEVICES": "0",
    "data": {
        # The output of pretreatment.py, an OpenGait pickle tree, or a packed store.
        "dataset_path": "./work/CASIA-B-pre",
        "resolution": "64",
        "dataset": "CASIA-B",
        # The first 73 subjects in sorted order are for training, all others for testing. Subject 005 is left out,
        # because its data are incomplete.
        "pid_num": 73,
        "pid_shuffle": False,
    },
    "model": {
        "hidden_dim": 256,
        "lr": 1e-4,
        "hard_or_full_trip": "full",
        # P subjects × K sequences, per process.
        "batch_size": (8, 16),
        # 0: start a new run; N: resume from the checkpoint of iteration N; -1: resume from the last checkpoint.
        "restore_iter": 0,
        "total_iter": 80000,
        "margin": 0.2,
        "num_workers": 3,
        "frame_num": 30,
        "model_name": "GaitSet",
    },
}
