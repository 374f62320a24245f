"""Corrupted test images: the kinds of CIFAR-10-C that need no photographs.

Definitions and constants are those of `ImageNet-C/create_c/make_cifar_c.py` in the repository
hendrycks/robustness (Hendrycks and Dietterich 2019), each in five severities. Left out are `frost`,
which needs photographs, and `spatter`, which needs OpenCV's edge detector. The images are not those
of CIFAR-10-C: other random numbers are drawn, a generator for each kind and severity, and here
every image may be of any size. Further differences stand with each function.
"""
