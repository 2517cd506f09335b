"""Whatever is tried on a draft can be taken back."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.build import Builder
from support.drafts import picture

from normswap.folding.draft import Draft
from normswap.folding.edits import Bypass, Insert, Replace, SetAttribute
from normswap.graph.build import build_network
from normswap.graph.expressions import Filled
from normswap.graph.network import Use
from normswap.graph.removal import name_block
from normswap.model import load


def network():
    b = Builder()
    x = b.input("N", 4, 6, 6)
    y = b.bn(b.conv(x, 4, 4, pads=[1, 1, 1, 1]), 4)
    y = b.node("Relu", y)
    z = b.bn(b.conv(y, 4, 4, pads=[1, 1, 1, 1], bias=False), 4)
    b.output(b.node("Add", y, z)).output(z)
    return build_network(load(b.model().SerializeToString()))


CONSTANT = Filled(__import__("numpy").ones((4, 1, 1)), 1)
BATCHNORMS = [1, 4]
NODES = st.integers(0, 5)
EDITS = st.one_of(
    st.builds(Replace, NODES, st.integers(0, 3), st.just(CONSTANT), st.just("k")),
    st.builds(SetAttribute, NODES, st.sampled_from(["group", "new"]), st.integers(0, 3)),
    st.builds(Insert, NODES, st.just(0), st.just("Add"), st.just(CONSTANT), st.just("k")),
)


@given(st.lists(EDITS, max_size=8), st.lists(EDITS, max_size=8), st.sampled_from(BATCHNORMS))
@settings(max_examples=50)
def test_rollback_restores_everything(first, second, batchnorm):
    net = network()
    draft = Draft(net)
    picture_at_first = picture(net)
    draft.commit(first)
    before, mark = picture(net), draft.mark()
    draft.commit(second)
    if name_block([Use(draft.nodes[batchnorm], 0)]) is None:
        draft.commit([Bypass(batchnorm)])
    draft.rollback(mark)
    assert picture(net) == before
    assert draft.mark() == mark
    draft.rollback(0)
    assert draft.edits == []
    assert picture(net) == picture_at_first
