"""The classes of CIFAR-10 and CIFAR-100, in the order of their labels, and other datasets' names.

A dataset in CIFAR's form names its classes in `batches.meta`, `batches.meta.txt`, `meta` or
`fine_label_names.txt`, as CIFAR does.
"""

from __future__ import annotations

import reprlib
from typing import cast

from resnet_spec.data.pickles import read_pickle
from resnet_spec.errors import DataError
from resnet_spec.files.encodings import decoded

_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR10 = tuple(_CIFAR10.split())
CIFAR100 = tuple(_CIFAR100.split())


def read_names(data: bytes, where: str, key: str) -> tuple[str, ...]:
    """Return the names in a file of them: a line each in a `.txt`, else a pickled list at `key`.

    Raises DataError.
    """
    if where.endswith(".txt"):
        lines = decoded(data, where, DataError).splitlines()
        names = [line.strip() for line in lines if line.strip()]
    else:
        found = read_pickle(data, where).get(key)
        listed = cast("list[object]", found) if isinstance(found, list) else []
        names = [_name(item, where) for item in listed]
    if not names:
        raise DataError(f"{where}: names no classes; get it again, or remove it")
    return tuple(names)


def _name(item: object, where: str) -> str:
    if isinstance(item, bytes):
        return decoded(item, where, DataError)
    if isinstance(item, str):
        return item
    raise DataError(f"{where}: names a class {reprlib.repr(item)}, which is no text; get it again")
