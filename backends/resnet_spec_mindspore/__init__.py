"""The mindspore backend."""
