"""An ONNX Runtime session on the device that Triton gives an instance, for the two models that are one process
(docs/adr/0028-one-process.md).
"""

import onnxruntime

GRAPHS = {"CPU": "model.onnx", "GPU": "fp32.onnx"}  # int8 as shipped; what `searchbar engines install` puts beside it


def session(folder, args):
    """The graph in `folder` for the instance that Triton's `args` tell of; one thread on a CPU.

    Raises:
        RuntimeError: it is for a GPU and ONNX Runtime would run it on the CPU instead.
    """
    kind = args["model_instance_kind"]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    found = onnxruntime.InferenceSession(str(folder / GRAPHS[kind]), options, providers=[provider(kind, args)])
    if kind == "GPU" and found.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError(
            f"ONNX Runtime {onnxruntime.__version__} has no CUDA here: it needs onnxruntime-gpu in the place of onnxruntime, "
            "the CUDA libraries of that release, and a GPU (docs/deploy.md)"
        )
    return found


def provider(kind, args):
    if kind == "CPU":
        return "CPUExecutionProvider"
    onnxruntime.preload_dlls()  # those that pip has put into site-packages
    # TensorFloat-32 would round every factor to ten bits, and the answers are those that others are compared with.
    return "CUDAExecutionProvider", {"device_id": args["model_instance_device_id"], "use_tf32": "0"}
