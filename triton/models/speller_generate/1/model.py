"""Between the speller's encoder and decoder: batches requests, runs aggressive decoding, splits the answers.

The two engines are models of the repository, called through Triton's BLS; or, where the configuration says so, their graphs
run in this process, which saves two or three ways through the server a batch (ADR 26).
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils
from aggressive import PAD, decode

WARM_UP = [[4, 5, 6, 7, 2]]  # token ids of a query


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"]).get("parameters", {})
        wanted = parameters.get("engines", {}).get("string_value") == "in_process"
        self.call = call
        if wanted and importlib.util.find_spec("onnxruntime") is None:
            pb_utils.Logger.log_warn("speller_generate: no onnxruntime in this Python, so the engines are called as models")
        elif wanted:
            self.call = Sessions(Path(args["model_repository"]).parent)
            ids = np.array(WARM_UP, np.int32)
            self._generate(ids, ids[:, None], None)

    def execute(self, requests):
        """All requests of the dynamic batch are decoded together; an engine's error is everyone's."""
        sources = [pb_utils.get_input_tensor_by_name(r, "SOURCE_IDS").as_numpy() for r in requests]
        candidates = [pb_utils.get_input_tensor_by_name(r, "CANDIDATE_IDS").as_numpy() for r in requests]
        try:
            # A batch has one encoder call: it shows in the trace of the batch's first request, if that one is traced.
            answer = self._generate(stack(sources), stack(candidates), requests[0].trace())
        except Exception as error:
            failure = pb_utils.TritonError(f"speller_generate: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        responses, start = [], 0
        for source, candidate in zip(sources, candidates):
            rows = slice(start, start + len(source))
            responses.append(response([part[rows] for part in answer], candidate.shape[1]))
            start += len(source)
        return responses

    def _generate(self, sources, candidates, trace):
        ids = sources.astype(np.int64)
        mask = (ids != PAD).astype(np.int64)
        (hidden,) = self.call("speller_encoder", {"input_ids": ids, "attention_mask": mask}, ["hidden"], trace)

        def verify(trees):
            feeds = {"hidden": hidden, "attention_mask": mask, **trees}
            return self.call("speller_decoder", feeds, ["argmax", "best", "logprob"], trace)

        return decode(sources, candidates, verify)


class Sessions:
    """The engines' graphs in this process, called as `call` is; one thread each, as `configs/cpu.pbtxt` of theirs says."""

    def __init__(self, repository):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._sessions = {
            model: onnxruntime.InferenceSession(
                str(repository / model / "1" / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
            for model in ("speller_encoder", "speller_decoder")
        }

    def __call__(self, model, feeds, outputs, trace):
        return self._sessions[model].run(outputs, feeds)


def call(model, feeds, outputs, trace):
    """Run another model of the repository on numpy arrays; raises RuntimeError with its message."""
    request = pb_utils.InferenceRequest(
        model_name=model,
        inputs=[pb_utils.Tensor(name, array) for name, array in feeds.items()],
        requested_output_names=outputs,
        trace=trace,
    )
    answer = request.exec()
    if answer.has_error():
        raise RuntimeError(f"{model}: {answer.error().message()}")
    return [pb_utils.get_output_tensor_by_name(answer, name).as_numpy() for name in outputs]


def stack(arrays):
    """Arrays [n_i, …] with other axes of unequal length → one array, padded with PAD."""
    if len(arrays) == 1:
        return arrays[0]
    shape = tuple(np.max([a.shape[1:] for a in arrays], axis=0))
    out = np.full((sum(len(a) for a in arrays), *shape), PAD, np.int32)
    start = 0
    for a in arrays:
        out[(slice(start, start + len(a)), *(slice(0, n) for n in a.shape[1:]))] = a
        start += len(a)
    return out


def response(parts, candidate_count):
    outputs, logprobs, candidate_logprobs, query_logprobs, passes = parts
    ids = np.full((len(outputs), max(len(tokens) for tokens in outputs)), PAD, np.int32)
    for row, tokens in enumerate(outputs):
        ids[row, : len(tokens)] = tokens
    return pb_utils.InferenceResponse(
        output_tensors=[
            pb_utils.Tensor("OUTPUT_IDS", ids),
            pb_utils.Tensor("LOGPROB", logprobs[:, None]),
            pb_utils.Tensor("QUERY_LOGPROB", query_logprobs[:, None]),
            pb_utils.Tensor("CANDIDATE_LOGPROBS", np.ascontiguousarray(candidate_logprobs[:, :candidate_count])),
            pb_utils.Tensor("PASSES", passes[:, None]),
        ]
    )
