"""What a draft is tried on, to see that it is as it was."""


def picture(net):
    """Everything that an edit could change."""
    return (
        [
            (
                node.key,
                node.op,
                node.removed,
                dict(node.attrs),
                [(value and (value.name, id(value))) for value in node.inputs],
                [
                    (value.name, sorted(value.readers), value.is_output, value.captured)
                    for value in node.outputs
                ],
            )
            for graph in net.graphs
            for node in graph.nodes
        ]
        + [[id(value) for value in graph.outputs] for graph in net.graphs]
        + [net.keys]
    )
