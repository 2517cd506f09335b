"""The search for a route: from one affine to the constants that absorb it.

A goal is reached if one of the answers of the operator that stands there can be completed, that is
if all the goals of that answer are reached. Edits are made on the draft as the search goes, and
taken back where an answer ends in a block. The search does not recurse, so chains of any length
are fine, and remembers which goals have failed, so it is linear where routes branch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from normswap.folding.answers import UNREAD, Answer, Down, Goal, Into, Up
from normswap.folding.edits import Edit, Insert, Replace
from normswap.folding.operators import Operator, find
from normswap.folding.plan import Step
from normswap.folding.soundness import unsound
from normswap.graph.evaluate import constant_of
from normswap.graph.expressions import Expression, Scaled
from normswap.graph.flaws import flawed
from normswap.graph.reasons import Block, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normswap.folding.draft import Draft
    from normswap.graph.network import Node, Use, Value


@dataclass(slots=True)
class _Frame:
    """A goal under search."""

    goal: Goal | None
    answers: Iterator[Answer | Block]
    mark: int
    steps: int
    pending: Iterator[Goal] | None = None
    then: tuple[Edit, ...] = ()
    block: Block | None = None
    trail: tuple[Step, ...] = ()


@dataclass(slots=True)
class Outcome:
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

    def solve(self, goals: Sequence[Goal]) -> Outcome:
        """Reach all goals, or none.

        Where they are reached, their edits are in the draft; otherwise the draft is as it was.
        """
        self.failed.clear()  # what has failed may not fail on a changed draft
        steps: list[Step] = []
        start = self.draft.mark()
        root = _Frame(None, iter([Answer(goals=tuple(goals))]), start, 0)
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
                answer = _next_answer(frame)
                if answer is None:
                    stack.pop()
                    failure = (frame.block or Block(Reason.OPERATOR, ""), frame.trail)
                    if frame.goal is not None:
                        self.failed[frame.goal] = failure
                    continue
                if isinstance(answer, Block):
                    self._fail(frame, answer, tuple(steps))
                    continue
                known = next((self.failed[g] for g in answer.goals if g in self.failed), None)
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
            elif goal in self.failed:
                failure = self.failed[goal]
            else:
                stack.append(_Frame(goal, self._answers(goal), self.draft.mark(), len(steps)))
        if failure is not None:
            return Outcome(failure[1], failure[0])
        edits = self.draft.edits[start:]
        block = unsound(edits, self.draft.nodes)
        if block is not None:
            self.draft.rollback(start)
            return Outcome(tuple(steps), block)
        return Outcome(tuple(steps), cost=sum(isinstance(edit, Insert) for edit in edits))

    @staticmethod
    def _fail(frame: _Frame, block: Block, trail: tuple[Step, ...]) -> None:
        """Remember the block of the best answer: that is the one to tell."""
        if frame.block is None:
            frame.block, frame.trail = block, trail

    def _answers(self, goal: Goal) -> Iterator[Answer | Block]:
        if goal.affine.is_identity:
            yield Answer()
            return
        misfit = _misfit(goal)
        if misfit is not None:
            yield misfit
            return
        match goal:
            case Up(use, affine):
                value = use.node.inputs[use.slot]
                if value is None:
                    raise AssertionError("an affine can't travel to an input that is left out")
                constant = constant_of(value)
                if isinstance(constant, Expression):
                    yield _absorbed_by_constant(constant, goal, value)
                    return
                block = self._reader_block(value, use, goal)
                node = value.producer
                if block is not None:
                    yield block
                    return
                if node is None:
                    raise AssertionError("a value of this graph that nothing makes is an input")
                index = next(i for i, output in enumerate(node.outputs) if output is value)
                yield from _operator_answers(node, index, goal)
            case Down(value, affine):
                if value.is_output:
                    yield Block(Reason.GRAPH_OUTPUT, value.name, f"{value.name} is an output")
                elif value.captured:
                    yield Block(Reason.CAPTURED, value.name, f"a subgraph reads {value.name}")
                elif not value.readers:
                    yield Block(Reason.NO_READER, value.name, f"nothing reads {value.name}")
                else:
                    yield Answer(goals=tuple(Into(u, affine) for u in value.readers.values()))
            case Into(use, affine):
                yield from _operator_answers(use.node, use.slot, goal)

    def _reader_block(self, value: Value, use: Use, goal: Up) -> Block | None:
        """Say who must not see the tensor changed, if anyone."""
        if value.graph is not use.node.graph:
            return Block(Reason.OUTER_SCOPE, value.name, f"{value.name} comes from outside")
        if value.producer is None:
            return Block(Reason.GRAPH_INPUT, value.name, f"{value.name} is an input")
        if value.is_output:
            return Block(Reason.GRAPH_OUTPUT, value.name, f"{value.name} is an output")
        if value.captured:
            return Block(Reason.CAPTURED, value.name, f"a subgraph reads {value.name}")
        others = [other for other in value.readers.values() if other is not use and other != use]
        affected = [other.node for other in others if not _unaffected(other, goal)]
        if affected:
            names = ", ".join(f"{node.op} {node.title}" for node in affected[:3])
            more = f" and {len(affected) - 3} more" if len(affected) > 3 else ""
            detail = f"{value.name} is also read by {names}{more}"
            if use.node.op == "BatchNormalization" and {n.op for n in affected} == {use.node.op}:
                detail += "; all of its readers are BatchNormalizations, no two of them alike"
            return Block(Reason.SEVERAL_READERS, value.name, detail)
        return None


def _next_answer(frame: _Frame) -> Answer | Block | None:
    """Return the next answer to a goal, None after the last.

    Operators read a node as their specification has it: shapes that fit each other, inputs and
    axes that are there. Where that fails, the node breaks the specification, and stays as it is.
    """
    try:
        return next(frame.answers, None)
    except (ValueError, IndexError) as error:
        node = frame.goal.use.node if isinstance(frame.goal, Up | Into) else None
        name = "" if node is None else f"{node.op} {node.title} or what is before it: "
        return Block(Reason.MALFORMED, "" if node is None else node.title, f"{name}{error}")


def _misfit(goal: Goal) -> Block | None:
    """Say where an affine has not the shape of the tensor that it is over, if anywhere.

    Only a malformed model brings it there; no operator has to look out for that.
    """
    value = goal.value if isinstance(goal, Down) else goal.use.node.inputs[goal.use.slot]
    if value is None or value.shape is None:
        return None
    for array in goal.affine.scale, goal.affine.shift:
        for axis, size in enumerate(array.shape):
            known = value.shape[axis] if axis < len(value.shape) else 1
            if size != 1 and isinstance(known, int) and known != size:
                detail = f"axis {axis} of {value.name} has size {known}, not {size}"
                return Block(Reason.MALFORMED, value.name, detail)
    return None


def _operator_answers(node: Node, index: int, goal: Goal) -> Iterator[Answer | Block]:
    operator = find(node)
    if operator is None or node.opaque:
        name = f"{node.domain}::{node.op}" if node.domain else node.op
        yield Block(Reason.OPERATOR, node.title, f"{name} {node.title}")
    elif node.refers_to_attributes:
        detail = f"an attribute of {node.op} {node.title} is a parameter of the function"
        yield Block(Reason.NOT_CONSTANT, node.title, detail)
    elif (block := flawed(node) or _unanswered(node, operator, index, goal)) is not None:
        yield block
    else:
        answer = operator.up if isinstance(goal, Up) else operator.down
        yield from answer(node, index, goal.affine)


def _unanswered(node: Node, operator: Operator, index: int, goal: Goal) -> Block | None:
    """Say which output of a node is read that its operator does not answer for, if any is."""
    asked = index if isinstance(goal, Up) else 0
    right = operator.right_up if isinstance(goal, Up) else operator.right_down
    if isinstance(goal, Up) and index not in operator.ways_up:
        detail = "makes it beside its result, of which alone an affine can be taken in"
        return operator.block(node, detail)
    for other, value in enumerate(node.outputs):
        if value is not None and other != asked and value.is_read and other not in right:
            detail = f"makes {value.name} too, which is read and would not be the same"
            return operator.block(node, detail)
    return None


def _unaffected(use: Use, goal: Up) -> bool:
    """Whether a reader comes to the same result from what the affine makes of its input.

    It does if it reads no values, or selects only such that the affine leaves as they are. One that
    takes the mean off does as well, but not with the same digits where there is a shift: if a scale
    of 1e-6 is to go elsewhere, what is shifted before it is so by 1e6 times as much, and of what is
    added to 1e6 a float32 keeps two digits. Nothing else would then be left for the reader.
    """
    first = next(_operator_answers(use.node, use.slot, Into(use, goal.affine)), None)
    if not isinstance(first, Answer) or first.edits:
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
