"""The data sets for scripts/gpu_check.sh.

usage: data.py pack SOURCE TARGET     MNIST as it is and 5,000 + 1,000 images of CIFAR-10's first batch, where SOURCE has them
       data.py unpack SOURCE TARGET   plain files, CIFAR-10's in the six that its reader wants
"""
import gzip
import os
import shutil
import sys

RECORD = 1 + 3 * 32 * 32
TRAIN, TEST = 5000, 1000

what, source, target = sys.argv[1:4]
os.makedirs(target, exist_ok=True)
if what == "pack":
    if os.path.isdir(os.path.join(source, "mnist")):
        shutil.copytree(os.path.join(source, "mnist"), os.path.join(target, "mnist"), dirs_exist_ok=True)
    batch = os.path.join(source, "cifar-10-batches-bin", "data_batch_1.bin")
    if os.path.exists(batch) or os.path.exists(batch + ".gz"):
        with open(batch, "rb") if os.path.exists(batch) else gzip.open(batch + ".gz", "rb") as file:
            images = file.read((TRAIN + TEST) * RECORD)
        with gzip.open(os.path.join(target, "cifar_batch.gz"), "wb") as file:
            file.write(images)
elif what == "unpack":
    mnist = os.path.join(source, "mnist")
    for name in os.listdir(mnist) if os.path.isdir(mnist) else []:
        os.makedirs(os.path.join(target, "mnist"), exist_ok=True)
        plain = os.path.join(target, "mnist", name.removesuffix(".gz"))
        open_packed = gzip.open if name.endswith(".gz") else open
        with open_packed(os.path.join(mnist, name), "rb") as packed, open(plain, "wb") as file:
            shutil.copyfileobj(packed, file)
    batch = os.path.join(source, "cifar_batch.gz")
    if os.path.exists(batch):
        cifar = os.path.join(target, "cifar")
        os.makedirs(cifar, exist_ok=True)
        with gzip.open(batch, "rb") as file:
            images = file.read()
        share = TRAIN // 5 * RECORD
        for i in range(5):
            with open(os.path.join(cifar, f"data_batch_{i + 1}.bin"), "wb") as file:
                file.write(images[i * share : (i + 1) * share])
        with open(os.path.join(cifar, "test_batch.bin"), "wb") as file:
            file.write(images[5 * share :])
else:
    sys.exit(__doc__)
