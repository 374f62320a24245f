"""The forms in which a trained network is used.

    small = condense(module)              active weights only, ablated neurons gone
    csr = to_torch_csr(module)            linear layers hold torch CSR weights
    to_onnx(module, example, path)        an ordinary dense graph, zeros where weights are inactive
    fast = to_semi_structured(module)     2:4 weights for the tensor cores of a GPU

All make a copy and leave the module as it is. The parameters of the copy need no gradient.
"""
