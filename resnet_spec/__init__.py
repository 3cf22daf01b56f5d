"""Write a residual network once, as data; get a native PyTorch, Flax or MindSpore model."""
