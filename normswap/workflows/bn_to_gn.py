"""``bn_to_gn`` and its special cases: their options, and what a swap makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from normswap.check.options import CheckOptions, check_options
from normswap.errors import UsageError
from normswap.groupnorm.calibrate import CalibrationOptions
from normswap.groupnorm.options import SwapOptions
from normswap.groupnorm.policy import GroupPolicy
from normswap.groupnorm.words import AUTO, CHANNELS, DEFAULT_GROUPS, SHARE
from normswap.progress import Progress, silent
from normswap.workflows.narrowed import narrowed
from normswap.workflows.swap import swap

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import TypedDict

    import numpy.typing as npt
    from typing_extensions import Unpack

    from normswap.inputs.sets import Data
    from normswap.model.sources import Source
    from normswap.workflows.result import Output
    from normswap.workflows.swap_report import SwapResult

    class Options(TypedDict, total=False):
        """What the three public functions have in common: all of them but `OF_GROUPS`."""

        calibrate: Data | None
        refit: bool
        holdout: float | str
        one_pass: bool
        evaluate: Data | None
        labels: str | os.PathLike[str] | npt.NDArray[Any] | None
        samples: int | None
        unfold: bool
        check: Literal["quick", "full", "off"] | CheckOptions | None
        form: str
        provider: str
        threads: int | None
        epsilon: float | None
        normalize: bool
        keep_scale: bool
        keep_bias: bool
        include: Sequence[str]
        exclude: Sequence[str]
        only_kept: bool
        overwrite: bool
        certificate: str | os.PathLike[str] | None
        state_dict: str | os.PathLike[str] | None
        copy: bool
        progress: Progress


OF_GROUPS = ("groups", "group_size", "on_indivisible", "search_groups", "regroup")
"""Parameters that say how many groups there are."""


def bn_to_gn(
    model: Source,
    output: Output = None,
    *,
    groups: int | Literal["channels"] = DEFAULT_GROUPS,
    group_size: int | None = None,
    on_indivisible: Literal["error", "gcd", "nearest", "keep"] = "error",
    search_groups: bool = False,
    regroup: bool = False,
    calibrate: Data | None = None,
    refit: bool = False,
    holdout: float | str = SHARE,
    one_pass: bool = False,
    evaluate: Data | None = None,
    labels: str | os.PathLike[str] | npt.NDArray[Any] | None = None,
    samples: int | None = None,
    unfold: bool = False,
    check: Literal["quick", "full", "off"] | CheckOptions | None = "quick",
    form: str = AUTO,
    provider: str = "cpu",
    threads: int | None = None,
    epsilon: float | None = None,
    normalize: bool = True,
    keep_scale: bool = True,
    keep_bias: bool = True,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    only_kept: bool = False,
    overwrite: bool = False,
    certificate: str | os.PathLike[str] | None = None,
    state_dict: str | os.PathLike[str] | None = None,
    copy: bool = True,
    progress: Progress = silent,
) -> SwapResult:
    """Replace the BatchNormalizations of a model with group normalizations, check it, and save it.

    The result is a different network, which no longer depends on the statistics of a batch. The
    mean and variance of each layer are moved into the operators before it, so that the group
    normalization gets a normalized tensor and most of the accuracy is kept. The result is proved,
    region by region, to be exactly that network; its drift from the original is reported, and is
    not an error. Inputs, outputs, their names, shapes and dtypes stay as they are.

    Parameters
    ----------
    model : path, bytes, binary stream, ModelProto, or Graph, Model or ONNXProgram
        See :func:`normswap.fold`.
    output : path or binary stream, optional
        Where to write the new model. Whatever happens, the file is either complete or untouched.
        Without an output nothing is written; the model is in the result.
    groups : int or "channels"
        Number of groups; 1 is layer normalization, ``"channels"`` is instance normalization.
    group_size : int, optional
        Channels per group, instead of `groups`.
    on_indivisible : {"error", "gcd", "nearest", "keep"}
        What to do if the channels of a layer can't be divided in this way: refuse the model, use
        the greatest common divisor, use the nearest divisor of the channels, or keep the
        BatchNormalization.
    search_groups : bool
        Choose the number of groups of each layer that fits the data best.
    regroup : bool
        Permute the channels of the network so that those in one group keep its statistics as
        constant as possible, measured on the data of `calibrate`, or else estimated from the
        weights. It costs nothing at run time: only constants change, and the permuted network is
        proved to be the same function before the swap.
    calibrate : path, dict or iterable of dict, optional
        Fit the scale and bias of every layer to data, so that the outputs stay close to the
        original's. A fit is kept only if it also helps on held-out samples; the check and the drift
        are on these, unless there is `evaluate`. A path names an ``.npz`` with an array for each
        input, an ``.npy`` or ``.pb`` for a model with one input, or a folder of these or of
        ``test_data_set_*``. In memory, it is a dict of arrays by input name, or an iterable of such
        dicts, one for each batch, in the shape and dtype that the model takes. Samples lie along
        the first axis; other arrays, such as labels, are ignored.
    refit : bool
        Also fit the weights of the linear layers, by least squares. This needs no labels, and
        recovers most of what the swap costs.
    holdout : float or str
        Share of the samples to hold out, on which every step of the fit is judged; or the name of
        an array in the data that says which group (such as an image or a patient) each sample
        belongs to, so that no group is split. A quarter is held out then.
    one_pass : bool
        Calibrate all layers in one pass, which is faster but less accurate.
    evaluate : path, dict or iterable of dict, optional
        Data for the check and the drift, to which nothing is fitted.
    labels : str, path or ndarray, optional
        The class number of each sample of that data, or of each pixel: the name of an array in it,
        a file with one array, or the array. ``report.accuracy`` then says how often the original
        and the swapped network are right.
    samples : int, optional
        Use only the first `samples` samples of the data.
    unfold : bool
        First restore the BatchNormalizations that an exporter folded, with the statistics of the
        data, see :func:`normswap.unfold`. That is checked too.
    check : {"quick", "full", "off"}, CheckOptions or None
        How the result is checked. None or ``"off"`` skips the check. A model to which there is
        nothing to do is not run.
    form : str
        ``"auto"``, ``"fastest"``, or a form of docs/bn-to-gn.md: ``"native"``, ``"layernorm"``,
        ``"instancenorm"``, ``"centred"``, ``"primitive"``, ``"contrib"``.
    provider : str
        Execution provider that the model is for, and that the check uses unless it names one.
    threads : int, optional
        Threads that the model will run on; by default, as many as this machine has.
    epsilon : float, optional
        Epsilon of all new layers, instead of each layer's own.
    normalize : bool
        Move each layer's mean and variance into the operators before it, as a fold does, or write
        them as a Mul and an Add there, so that its group normalization gets the normalized tensor.
        The result is then close to the original without any data. If False, the tensor is
        normalized as it is, for training from scratch.
    keep_scale, keep_bias : bool
        Whether a layer's scale and B become the affine of the new one.
    include, exclude : sequence of str
        Patterns (``*`` and ``?``) on names of nodes and of their input and output tensors.
    only_kept : bool
        Swap only what :func:`normswap.fold` can't remove.
    overwrite : bool
        Whether an existing file may be replaced.
    certificate : path, optional
        Where to write what was proved, for :func:`normswap.verify`; an existing file is replaced.
        None is written if there is nothing to swap.
    state_dict : path, optional
        Where to write the weights for the torch module in which each BatchNorm is replaced by a
        GroupNorm, under the names that torch's exporter gave them: an ``.npz`` or ``.safetensors``.
        With it, constants beside a layer are not absorbed into its affine.
    copy : bool
        Whether a model to which there is nothing to do is still copied to the output, unchanged.
    progress : callable
        Is told what is being done, in a few words.

    Returns
    -------
    SwapResult
        ``report`` says what was done, ``model`` is the new ModelProto, and ``save(path)`` writes
        it.

    Raises
    ------
    NotEquivalentError
        If the check finds that it is not the group normalization network. Nothing is saved;
        ``error.report`` has the figures.
    InconclusiveError
        If the check reaches no conclusion. Nothing is saved; ``error.report`` says why.
    UsageError
        If an option has an invalid value or doesn't fit the model, or the output exists. It is a
        ValueError.
    ModelError, DataError
        If the model or the data is unreadable, invalid or unsupported, or a constant of the model,
        the data or what is fitted to it is not finite.
    RunError, RunTimeoutError
        If the runtime is unavailable, crashed or timed out.

    Examples
    --------
    >>> import normswap
    >>> result = normswap.bn_to_gn("models/digits_resnet.onnx", groups=4, form="primitive")
    >>> len(result.report.plan.swaps), result.report.check.verdict.value
    (8, 'equivalent')
    >>> try:
    ...     normswap.bn_to_gn("models/digits_resnet.onnx", form="grouped")
    ... except normswap.UsageError as error:
    ...     print(error)
    form='grouped' is not one of 'auto', 'fastest', 'centred', ...
    """
    how = check_options(check, provider=provider)
    fitting = {
        "refit": refit,
        "holdout": holdout != SHARE,
        "one_pass": one_pass,
        "search_groups": search_groups,
        "unfold": unfold,
    }
    for name, given in fitting.items():
        if given and calibrate is None:
            raise UsageError(f"{name} needs data.", tip="Add calibrate=.")
    for name, given in (("samples", samples is not None), ("labels", labels is not None)):
        if given and calibrate is None and evaluate is None:
            raise UsageError(f"{name} needs data.", tip="Add calibrate= or evaluate=.")
    timeout = (how or CheckOptions()).timeout
    return swap(
        model,
        output,
        SwapOptions(
            policy=GroupPolicy.of(groups, group_size, on_indivisible),
            form=form,
            provider=provider,
            threads=threads,
            epsilon=epsilon,
            normalize=normalize,
            regroup=regroup,
            keep_scale=keep_scale,
            keep_bias=keep_bias,
            include=tuple(include),
            exclude=tuple(exclude),
            only_kept=only_kept,
        ),
        overwrite=overwrite,
        certificate=certificate,
        state_dict=state_dict,
        copy=copy,
        check=how,
        data=calibrate,
        evaluate=evaluate,
        labels=labels,
        samples=samples,
        unfold=unfold,
        calibration=CalibrationOptions(one_pass, search_groups, timeout, refit, holdout),
        progress=progress,
    )


@narrowed(bn_to_gn, *OF_GROUPS)
def bn_to_ln(model: Source, output: Output = None, **options: Unpack[Options]) -> SwapResult:
    """Replace BatchNormalization with layer normalization over channels and space: one group.

    Examples
    --------
    >>> import normswap
    >>> result = normswap.bn_to_ln("models/digits_resnet.onnx", check=None)
    >>> {swap.num_groups for swap in result.report.plan.swaps}
    {1}
    """
    return bn_to_gn(model, output, groups=1, **options)


@narrowed(bn_to_gn, *OF_GROUPS)
def bn_to_in(model: Source, output: Output = None, **options: Unpack[Options]) -> SwapResult:
    """Replace BatchNormalization with instance normalization: one group per channel.

    Examples
    --------
    >>> import normswap
    >>> result = normswap.bn_to_in("models/digits_resnet.onnx", check=None)
    >>> all(swap.num_groups == swap.site.channels for swap in result.report.plan.swaps)
    True
    """
    return bn_to_gn(model, output, groups=CHANNELS, **options)
