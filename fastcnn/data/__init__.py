"""Data sets: by name, from files, or drawn by the package itself."""

from fastcnn.data.archive import read_npz, write_npz
from fastcnn.data.augment import Augment
from fastcnn.data.cifar import read_cifar10, read_cifar100, write_cifar10
from fastcnn.data.dataset import Dataset
from fastcnn.data.digits import digits_dataset, draw_digits
from fastcnn.data.folders import read_folder
from fastcnn.data.idx import read_idx, write_idx
from fastcnn.data.images import read_image, read_picture
from fastcnn.data.loading import load, load_default
from fastcnn.data.pictures import Pictures
from fastcnn.data.preprocessing import Preprocessing
from fastcnn.data.survey import chosen_pictures
from fastcnn.data.table import read_csv

__all__ = [
    "Augment",
    "Dataset",
    "Pictures",
    "Preprocessing",
    "chosen_pictures",
    "digits_dataset",
    "draw_digits",
    "load",
    "load_default",
    "read_cifar10",
    "read_cifar100",
    "read_csv",
    "read_folder",
    "read_idx",
    "read_image",
    "read_npz",
    "read_picture",
    "write_cifar10",
    "write_idx",
    "write_npz",
]
