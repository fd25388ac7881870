"""Triton backend `onnxruntime` for servers that lack NVIDIA's C++ one, such as the server in the nvidia-pytriton wheel.

A python-based backend: a model whose configuration says `backend: "onnxruntime"` and holds `1/model.onnx` is served by
ONNX Runtime in a stub process, on the device of its instance. The configuration is the one that NVIDIA's own backend reads,
`intra_op_thread_count` included, so that a repository moves between the two without a change.
"""

import json
import os

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


def provider(args):
    """ONNX Runtime's for the device of this instance; fp32 on a GPU is fp32, not the TensorFloat-32 of its default."""
    if args["model_instance_kind"] == "CPU":
        return "CPUExecutionProvider"
    onnxruntime.preload_dlls()  # those that pip has put into site-packages
    return "CUDAExecutionProvider", {"device_id": args["model_instance_device_id"], "use_tf32": "0"}


class TritonPythonModel:
    """One model instance: one ONNX Runtime session."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or "model.onnx"
        path = os.path.join(args["model_repository"], args["model_version"], file)
        parameters = {name: value["string_value"] for name, value in config.get("parameters", {}).items()}
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", 1))
        options.inter_op_num_threads = 1
        # Threads that spin while idle would take the core from the server next to them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(path, options, providers=[provider(args)])
        if args["model_instance_kind"] == "GPU" and self.session.get_providers()[0] != "CUDAExecutionProvider":
            raise RuntimeError("ONNX Runtime has no CUDA here, and the CPU shall not run what is for a GPU (docs/deploy.md)")
        self.inputs = [tensor["name"] for tensor in config["input"]]
        self.outputs = [tensor["name"] for tensor in config["output"]]
        self.batched = config["max_batch_size"] > 0

    def execute(self, requests):
        """Requests that Triton's dynamic batcher put together have equal shapes and run as one batch."""
        if len(requests) > 1 and self.batched:
            try:
                return self._run_together(requests)
            except Exception:  # one bad request must not fail its batch mates: find it by running each alone
                return [self._run_alone(request) for request in requests]
        return [self._run_alone(request) for request in requests]

    def _run_alone(self, request):
        try:
            feeds = {name: pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self.inputs}
            return self._response(self.session.run(self.outputs, feeds))
        except Exception as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _run_together(self, requests):
        feeds = {
            name: np.concatenate([pb_utils.get_input_tensor_by_name(request, name).as_numpy() for request in requests])
            for name in self.inputs
        }
        sizes = [pb_utils.get_input_tensor_by_name(request, self.inputs[0]).shape()[0] for request in requests]
        splits = np.cumsum(sizes)[:-1]
        results = [np.split(array, splits) for array in self.session.run(self.outputs, feeds)]
        return [self._response([parts[i] for parts in results]) for i in range(len(requests))]

    def _response(self, arrays):
        tensors = [pb_utils.Tensor(name, np.ascontiguousarray(a)) for name, a in zip(self.outputs, arrays)]
        return pb_utils.InferenceResponse(output_tensors=tensors)
