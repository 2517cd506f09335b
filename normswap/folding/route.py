"""The search for a route: from one affine to the constants that absorb it.

A goal is reached if one of the answers of the operator that stands there can be completed, that is
if all the goals of that answer are reached. Edits are made on the draft as the search goes, and
taken back where an answer ends in a block. The search does not recurse, so chains of any length
are fine, and remembers which goals have failed, so it is linear where routes branch.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from normswap.folding.answers import UNREAD, Answer, Answers, Down, Goal, Into, Up, Way
from normswap.folding.edits import Edit, Insert, Replace
from normswap.folding.operators import Operator, find
from normswap.folding.plan import Step
from normswap.folding.soundness import misfit, unsound
from normswap.graph.evaluate import constant_of
from normswap.graph.flaws import require_sound
from normswap.graph.formulas import Scaled
from normswap.graph.reasons import Block, Blocked, Reason, unless_blocked

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.folding.draft import Draft
    from normswap.graph.expressions import Expression
    from normswap.graph.network import Node, Use, Value


MOST_NAMED = 3
"""Readers of a tensor that a reason names; the others are not asked what they would make of it."""

MOST_COUNTED = 100
"""Further readers that are counted, so that a tensor of very many costs no more."""


@dataclass(slots=True)
class _Frame:
    """A goal under search."""

    goal: Goal | None
    ways: Iterator[Way]
    mark: int
    steps: int
    pending: Iterator[Goal] | None = None
    then: tuple[Edit, ...] = ()
    block: Block | None = None
    trail: tuple[Step, ...] = ()


@dataclass(slots=True)
class RouteOutcome:
    """What a search came to.

    Attributes
    ----------
    steps : tuple of Step
        The route; where it is blocked, the way that was gone until the block.
    block : Block or None
        None where the route is complete; its edits then stand in the draft.
    cost : int
        How many nodes the route adds.
    """

    steps: tuple[Step, ...]
    block: Block | None = None
    cost: int = 0


@dataclass(slots=True)
class Router:
    """Finds routes on a draft."""

    draft: Draft
    failed: dict[Goal, tuple[Block, tuple[Step, ...]]] = field(default_factory=dict)

    def solve(self, goals: Sequence[Goal]) -> RouteOutcome:
        """Reach all goals, or none.

        Where they are reached, their edits are in the draft; otherwise the draft is as it was.
        """
        self.failed.clear()  # what has failed may not fail on a changed draft
        steps: list[Step] = []
        start = self.draft.mark()
        root = _Frame(None, iter([lambda: Answer(goals=tuple(goals))]), start, 0)
        stack = [root]
        failure: tuple[Block, tuple[Step, ...]] | None = None
        while stack:
            frame = stack[-1]
            if failure is not None:  # a goal of the present answer can't be reached
                self._fail(frame, *failure)
                self.draft.rollback(frame.mark)
                del steps[frame.steps :]
                frame.pending, failure = None, None
            if frame.pending is None:
                try:
                    answer = _next_answer(frame)
                except Blocked as refusal:
                    self._fail(frame, refusal.block, tuple(steps))
                    continue
                if answer is None:
                    stack.pop()
                    failure = (frame.block or Block(Reason.OPERATOR, ""), frame.trail)
                    if frame.goal is not None:
                        self.failed[frame.goal] = failure
                    continue
                known = next((self.failed[g] for g in answer.goals if self._has_failed(g)), None)
                if known is not None:
                    self._fail(frame, *known)
                    continue
                if isinstance(frame.goal, Up | Into) and not frame.goal.affine.is_identity:
                    steps.append(_step(frame.goal, answer))
                self.draft.commit(answer.edits)
                frame.pending, frame.then = iter(answer.goals), answer.then
            goal = next(frame.pending, None)
            if goal is None:
                self.draft.commit(frame.then)
                stack.pop()
            elif self._has_failed(goal):
                failure = self.failed[goal]
            else:
                stack.append(_Frame(goal, self._ways(goal), self.draft.mark(), len(steps)))
        if failure is not None:
            return RouteOutcome(failure[1], failure[0])
        edits = self.draft.since(start)
        block = unsound(edits, self.draft.nodes) or misfit(edits, self.draft.nodes)
        if block is not None:
            self.draft.rollback(start)
            return RouteOutcome(tuple(steps), block)
        return RouteOutcome(tuple(steps), cost=sum(isinstance(edit, Insert) for edit in edits))

    def _has_failed(self, goal: Goal) -> bool:
        return bool(self.failed) and goal in self.failed  # most have no need of a hash

    @staticmethod
    def _fail(frame: _Frame, block: Block, trail: tuple[Step, ...]) -> None:
        """Remember the block of the best answer: that is the one to tell."""
        if frame.block is None:
            frame.block, frame.trail = block, trail

    def _ways(self, goal: Goal) -> Iterator[Way]:
        """Yield how a goal may be reached; where nothing is to be told but why not, raise that."""
        yield from _each(self._answers(goal))

    def _answers(self, goal: Goal) -> Answers:
        if goal.affine.is_identity:
            return Answer()
        _require_fit(goal)
        match goal:
            case Up(use, affine):
                value = use.node.inputs[use.slot]
                if value is None:
                    raise AssertionError("an affine can't travel to an input that is left out")
                constant = unless_blocked(constant_of, value)
                if constant is not None:
                    return _absorbed_by_constant(constant, goal, value)
                node = self._maker(value, use, goal)
                index = next(i for i, output in enumerate(node.outputs) if output is value)
                return _operator_answers(node, index, goal)
            case Down(value, affine):
                if value.is_output:
                    raise Blocked(
                        Reason.GRAPH_OUTPUT, value.name, f"{value.name} is a graph output"
                    )
                if value.captured:
                    raise Blocked(Reason.CAPTURED, value.name, f"a subgraph reads {value.name}")
                if not value.readers:
                    raise Blocked(Reason.NO_READER, value.name, f"nothing reads {value.name}")
                return Answer(goals=tuple(Into(u, affine) for u in value.readers.values()))
            case Into(use, affine):
                return _operator_answers(use.node, use.slot, goal)

    def _maker(self, value: Value, use: Use, goal: Up) -> Node:
        """Return who makes a tensor, unless anyone must not see it changed."""
        if value.graph is not use.node.graph:
            detail = f"{value.name} is computed outside this subgraph"
            raise Blocked(Reason.OUTER_SCOPE, value.name, detail)
        if value.producer is None:
            raise Blocked(Reason.GRAPH_INPUT, value.name, f"{value.name} is a graph input")
        if value.is_output:
            raise Blocked(Reason.GRAPH_OUTPUT, value.name, f"{value.name} is a graph output")
        if value.captured:
            raise Blocked(Reason.CAPTURED, value.name, f"a subgraph reads {value.name}")
        others = (other for other in value.readers.values() if other != use)
        affected = (other.node for other in others if not _unaffected(other, goal))
        named = list(itertools.islice(affected, MOST_NAMED))
        if named:
            more = sum(1 for _ in itertools.islice(others, MOST_COUNTED))
            names = ", ".join(f"{node.op} {node.title}" for node in named)
            if more:
                names += f" and {more if more < MOST_COUNTED else 'many'} more"
            detail = f"{value.name} is also read by {names}"
            ops = {other.node.op for other in value.readers.values()} if more < MOST_COUNTED else ()
            if ops == {"BatchNormalization"}:
                detail += "; all its readers are BatchNormalizations with different parameters"
            raise Blocked(Reason.SEVERAL_READERS, value.name, detail)
        return value.producer


def _each(answers: Answers) -> Iterator[Way]:
    """Yield the ways that an operator knows, of which a single answer is one."""
    if isinstance(answers, Answer):
        yield lambda: answers
    else:
        yield from answers


def _next_answer(frame: _Frame) -> Answer | None:
    """Return the next answer to a goal, None after the last.

    Operators read a node as their specification has it: shapes that fit each other, inputs and
    axes that are there. Where that fails, the node breaks the specification, and stays as it is.

    Raises
    ------
    Blocked
        If the next way is none.
    """
    try:
        way = next(frame.ways, None)
        return None if way is None else way()
    except (ValueError, IndexError) as error:
        frame.ways = iter(())
        node = frame.goal.use.node if isinstance(frame.goal, Up | Into) else None
        name = (
            "" if node is None else f"{node.op} {node.title}, or a node before it, is malformed: "
        )
        title = "" if node is None else node.title
        raise Blocked(Reason.MALFORMED, title, f"{name}{error}") from error


def _require_fit(goal: Goal) -> None:
    """Let pass only an affine that has the shape of the tensor that it is over.

    Only a malformed model brings another there; no operator has to look out for that.
    """
    value = goal.value if isinstance(goal, Down) else goal.use.node.inputs[goal.use.slot]
    if value is None or value.shape is None:
        return
    for array in goal.affine.scale, goal.affine.shift:
        for axis, size in enumerate(array.shape):
            known = value.shape[axis] if axis < len(value.shape) else 1
            if size != 1 and isinstance(known, int) and known != size:
                detail = (
                    f"axis {axis} of {value.name} has size {known}, and the parameters have {size}"
                )
                raise Blocked(Reason.MALFORMED, value.name, detail)


def _operator_answers(node: Node, index: int, goal: Goal) -> Answers:
    operator = find(node)
    if operator is None or node.opaque:
        name = f"{node.domain}::{node.op}" if node.domain else node.op
        detail = f"{name} {node.title} neither absorbs a scale and shift nor passes them on"
        raise Blocked(Reason.OPERATOR, node.title, detail)
    if node.refers_to_attributes:
        detail = f"an attribute of {node.op} {node.title} is set by the caller of its function"
        raise Blocked(Reason.NOT_CONSTANT, node.title, detail)
    require_sound(node)
    _require_answers_for_all(node, operator, index, goal)
    answer = operator.up if isinstance(goal, Up) else operator.down
    return answer(node, index, goal.affine)


def _require_answers_for_all(node: Node, operator: Operator, index: int, goal: Goal) -> None:
    """Let pass only if the operator answers for every output of the node that is read."""
    asked = index if isinstance(goal, Up) else 0
    right = operator.right_up if isinstance(goal, Up) else operator.right_down
    if isinstance(goal, Up) and index not in operator.ways_up:
        detail = f"absorbs a scale and shift of its first output only, and this is output {index}"
        raise operator.blocked(node, detail)
    for other, value in enumerate(node.outputs):
        if value is not None and other != asked and value.is_used and other not in right:
            detail = f"has a further output {value.name}, which is read and would change"
            raise operator.blocked(node, detail)


def _unaffected(use: Use, goal: Up) -> bool:
    """Whether a reader comes to the same result from what the affine makes of its input.

    It does if it reads no values, or selects only such that the affine leaves as they are. One that
    takes the mean off does as well, but not with the same digits where there is a shift: if a scale
    of 1e-6 is to go elsewhere, what is shifted before it is so by 1e6 times as much, and of what is
    added to 1e6 a float32 keeps two digits. Nothing else would then be left for the reader.
    """
    try:
        answers = _operator_answers(use.node, use.slot, Into(use, goal.affine))
        first = next(_each(answers))()
    except Blocked:
        return False
    if first.edits:
        return False
    if first.goals:
        return all(further.affine.is_identity for further in first.goals)
    return first is UNREAD or not goal.affine.has_shift


def _absorbed_by_constant(constant: Expression, goal: Up, value: Value) -> Answer:
    scale, shift = goal.affine.at(len(constant.shape))
    changed = Scaled(constant, scale, shift if goal.affine.has_shift else None)
    use = goal.use
    return Answer((Replace(use.node.key, use.slot, changed, value.name),), note="K = s*K + t")


def _step(goal: Up | Into, answer: Answer) -> Step:
    use = goal.use
    value = use.node.inputs[use.slot]
    node = use.node
    if isinstance(goal, Up) and value is not None and value.producer is not None:
        node = value.producer
    return Step(
        direction="up" if isinstance(goal, Up) else "down",
        action="carry" if answer.goals else "absorb",
        op=node.op,
        node=node.title,
        tensor=value.name if value is not None else "",
        note=answer.note,
    )
