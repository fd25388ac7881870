"""Between the speller's encoder and decoder: batches requests, runs aggressive decoding, splits the answers.

The two engines are models of the repository, called through Triton's BLS.
"""

import numpy as np
import triton_python_backend_utils as pb_utils
from aggressive import PAD, generate


class TritonPythonModel:
    def execute(self, requests):
        """All requests of the dynamic batch are decoded together; an engine's error is everyone's."""
        sources = [pb_utils.get_input_tensor_by_name(r, "SOURCE_IDS").as_numpy() for r in requests]
        candidates = [pb_utils.get_input_tensor_by_name(r, "CANDIDATE_IDS").as_numpy() for r in requests]
        # A batch has one encoder call: it shows in the trace of the batch's first request, if that one is traced.
        trace = requests[0].trace()
        try:
            answer = generate(stack(sources), stack(candidates), lambda *asked: call(*asked, trace))
        except Exception as error:
            failure = pb_utils.TritonError(f"speller_generate: {error}")
            return [pb_utils.InferenceResponse(error=failure) for _ in requests]
        responses, start = [], 0
        for source, candidate in zip(sources, candidates):
            rows = slice(start, start + len(source))
            responses.append(response([part[rows] for part in answer], candidate.shape[1]))
            start += len(source)
        return responses


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
