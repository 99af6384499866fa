"""Storage formats: one file each, with the stored weight, its codec and its kernels."""
