"""The operators that onnx's reference gets wrong; see `support.reference_errors`."""

from support.reference_errors import Wrong

WRONG = {
    "Add": Wrong(
        (1,),
        "`broadcast` and `axis` of opset 6 and below align the second operand wrongly, or fail.",
        (1, 2),
    ),
    "AveragePool": Wrong(
        (1, 10, 22),
        "Up to opset 6, padding should not be counted; `auto_pad` with `ceil_mode` fails.",
        (1, 4),
    ),
    "BatchNormalization": Wrong(
        (1, 6, 7, 9),
        "Training mode by five outputs (opsets 7 to 13) and opset 1 are not supported; opset "
        "6 returns a tuple.",
        (9, 2),
    ),
    "Cast": Wrong(
        (1,),
        "A type given as text, as up to opset 5, fails.",
        (1, 5),
    ),
    "Clip": Wrong(
        (1,),
        "Opset 1 is missing.",
        (1, 0),
    ),
    "Concat": Wrong(
        (1,),
        "The default axis of opset 1 is missing.",
        (1, 4),
    ),
    "ConvTranspose": Wrong(
        (1, 11, 22),
        "Groups, `output_shape` and `output_padding` fail or give wrong values.",
        (11, 4),
    ),
    "DequantizeLinear": Wrong(
        (10, 13),
        "Opsets 10 and 13 are missing.",
        (10, 1),
    ),
    "Dropout": Wrong(
        (1, 6),
        "Opsets 1 and 6 are missing.",
        (6, 0),
    ),
    "Equal": Wrong(
        (1,),
        "`broadcast` and `axis` of opset 6 and below align the second operand wrongly, or fail.",
        (1, 2),
    ),
    "GRU": Wrong(
        (1, 3, 7, 14, 22),
        "`sequence_lens`, `activations` with their alpha and beta, `clip`, and all directions "
        "but forward are ignored.",
        (7, 1),
    ),
    "GatherElements": Wrong(
        (11, 13),
        "Negative axes, and indices whose sizes differ from the data's, fail.",
        (13, 6),
    ),
    "Gemm": Wrong(
        (1, 6),
        "Opset 1 is missing, as is `broadcast` at opset 6.",
        (6, 3),
    ),
    "GlobalLpPool": Wrong(
        (1, 2, 22),
        "It is missing.",
        (22, 5),
    ),
    "GlobalMaxPool": Wrong(
        (1, 22),
        "With one spatial axis, the channels are reduced too.",
        (22, 3),
    ),
    "GridSample": Wrong(
        (16, 20),
        "The modes of opset 16, bilinear and bicubic, fail; cubic with border padding is wrong.",
        (20, 5),
    ),
    "Hardmax": Wrong(
        (1, 11),
        "Up to opset 12, all axes from `axis` on count as one; only `axis` itself is used. "
        "The default is that of opset 13.",
        (1, 3),
    ),
    "LRN": Wrong(
        (1, 13),
        "The window is too narrow, and it fails with few channels.",
        (1, 0),
    ),
    "LSTM": Wrong(
        (1, 7, 14, 22),
        "`sequence_lens`, `activations` with their alpha and beta, `clip`, `input_forget`, "
        "and all directions but forward are ignored.",
        (22, 6),
    ),
    "LogSoftmax": Wrong(
        (1, 11),
        "Up to opset 12, all axes from `axis` on count as one; only `axis` itself is used. "
        "The default is that of opset 13.",
        (11, 2),
    ),
    "Loop": Wrong(
        (1, 11, 13, 16, 19, 21, 23, 24, 25),
        "The outputs of the iterations are concatenated along their first axis instead of a "
        "new one; and a missing condition counts as false.",
        (25, 0),
    ),
    "LpNormalization": Wrong(
        (1, 22),
        "`p=1` sums values instead of magnitudes.",
        (1, 5),
    ),
    "LpPool": Wrong(
        (22,),
        "The elements that `ceil_mode` adds at the end are wrong.",
        (22, 1),
    ),
    "MaxPool": Wrong(
        (1, 8, 10, 11, 12, 22),
        "The indices (the second output) restart in every channel, or are not in row-major order.",
        (12, 0),
    ),
    "MaxRoiPool": Wrong(
        (1, 22),
        "It is missing.",
        (22, 0),
    ),
    "Mean": Wrong(
        (8, 13),
        "Operands that broadcast fail.",
        (13, 3),
    ),
    "Mul": Wrong(
        (6,),
        "`broadcast` and `axis` of opset 6 and below align the second operand wrongly, or fail.",
        (6, 1),
    ),
    "NonMaxSuppression": Wrong(
        (10, 11),
        "Missing optional inputs fail.",
        (10, 2),
    ),
    "Or": Wrong(
        (1,),
        "`broadcast` and `axis` of opset 6 and below align the second operand wrongly, or fail.",
        (1, 0),
    ),
    "PRelu": Wrong(
        (1, 6),
        "One slope per channel, as up to opset 6, is aligned with the last axis.",
        (6, 4),
    ),
    "Pad": Wrong(
        (1, 2, 13, 18, 21, 23, 24, 25),
        "Negative pads fail.",
        (1, 3),
    ),
    "Pow": Wrong(
        (1,),
        "`broadcast` and `axis` of opset 6 and below fail.",
        (1, 6),
    ),
    "RNN": Wrong(
        (1, 7, 14, 22),
        "`sequence_lens`, `activations` with their alpha and beta, `clip`, and all directions "
        "but forward are ignored.",
        (14, 2),
    ),
    "ReduceLogSumExp": Wrong(
        (18, 28),
        "A scalar fails.",
        (28, 3),
    ),
    "ReduceSumSquare": Wrong(
        (1, 11, 13, 18),
        "Integers change their type.",
        (11, 4),
    ),
    "Reshape": Wrong(
        (1,),
        "Opset 1 is missing.",
        (1, 1),
    ),
    "Resize": Wrong(
        (11, 13, 18, 19),
        "`align_corners` and `tf_crop_and_resize` use the resized length before it is rounded "
        "down; antialiasing is wrong, and `axes` fails for some ranks.",
        (13, 1),
    ),
    "RoiAlign": Wrong(
        (10,),
        "At opset 10, the default is that of opset 16, which is half a pixel off.",
        (10, 6),
    ),
    "Scan": Wrong(
        (9, 11, 16, 19, 21, 23, 24, 25),
        "Axes other than the first, and directions other than forward, fail.",
        (23, 4),
    ),
    "Scatter": Wrong(
        (9,),
        "It is missing.",
        (9, 1),
    ),
    "SequenceInsert": Wrong(
        (11,),
        "The position after the last is taken for the first, and the input sequence is modified.",
        (11, 2),
    ),
    "Shape": Wrong(
        (15, 25),
        "A `start` beyond `end`, or out of range, gives the wrong axes.",
        (25, 0),
    ),
    "SimplifiedLayerNormalization": Wrong(
        (1,),
        "It is missing.",
        (1, 6),
    ),
    "Slice": Wrong(
        (11, 13),
        "With a negative step, a start before the first element means the first element "
        "instead of nothing.",
        (11, 1),
    ),
    "Softmax": Wrong(
        (1, 11),
        "Up to opset 12, all axes from `axis` on count as one; only `axis` itself is used. "
        "The default is that of opset 13.",
        (11, 0),
    ),
    "Softsign": Wrong(
        (1, 22),
        "A scalar fails.",
        (22, 1),
    ),
    "Split": Wrong(
        (1,),
        "Opset 1 is missing.",
        (1, 3),
    ),
    "Squeeze": Wrong(
        (11,),
        "Axes are removed one after another, so unless they are descending, it fails or "
        "removes others.",
        (11, 4),
    ),
    "Sub": Wrong(
        (1, 6),
        "`broadcast` and `axis` of opset 6 and below align the second operand wrongly, or fail.",
        (6, 1),
    ),
    "Unique": Wrong(
        (11, 28),
        "`sorted=0` fails.",
        (11, 0),
    ),
    "Unsqueeze": Wrong(
        (1, 11),
        "As an attribute (up to opset 12), unsorted, negative or mixed axes are applied one "
        "after another.",
        (1, 6),
    ),
    "Upsample": Wrong(
        (7, 9),
        "Fractional scales fail, and so does opset 7.",
        (7, 2),
    ),
}
