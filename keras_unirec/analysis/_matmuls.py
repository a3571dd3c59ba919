"""Counts the matrix products of a traced function, without running it.

Both walks see the function as it will run: shapes, broadcasting and the order
of contractions are those of the backend. A product of `(m, k)` by `(k, n)` is
`m * k * n` multiply-accumulates.
"""

import contextlib
import math
import re

import keras
from keras import tree


def walk(call, variables, inputs, differentiate=None):
    """Yields `(scope, macs)` for every matrix product of `call`.

    Args:
        call: Function of the input tensors. Runs in a `keras.StatelessScope`
            in which the variables are symbolic: they need not be allocated.
        variables: List of Keras variables that `call` reads.
        inputs: Structure of objects with a static `shape` and a `dtype`.
        differentiate: Optional list of Keras variables: the gradients of the
            sum of all outputs with respect to them are counted too.

    Returns:
        List of tuples: the path of scopes (names of layers) of a product, as
        a tuple of str, and its number of multiply-accumulates.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        return list(_walk_tensorflow(call, variables, inputs, differentiate))
    if backend == "jax":
        return list(_walk_jax(call, variables, inputs, differentiate))
    raise NotImplementedError(
        "Matrix products are counted on the TensorFlow and JAX backends. "
        f"Received: backend={backend!r}"
    )


def _stateless(call, variables, values, tensors):
    mapping = list(zip(variables, values, strict=True))
    with keras.StatelessScope(state_mapping=mapping):
        return call(tensors)


def _scalar(outputs):
    return sum(
        keras.ops.sum(keras.ops.cast(x, "float32"))
        for x in tree.flatten(outputs)
    )


# === TensorFlow ===


def _walk_tensorflow(call, variables, inputs, differentiate):
    import tensorflow as tf

    scope_names = {}

    class Graph(tf.Graph):
        """A graph that remembers the names under which scopes were entered.

        `tf.Graph` numbers scopes of the same name ("dense", "dense_1"), which
        would be mistaken for other layers.
        """

        @contextlib.contextmanager
        def name_scope(self, name):
            # Layer names are legal that TensorFlow refuses as a scope.
            legal = name and re.sub(r"[^A-Za-z0-9_.\\/>-]", ".", name)
            with super().name_scope(legal) as scope:
                if scope:
                    scope_names.setdefault(scope.rstrip("/"), name.rstrip("/"))
                yield scope

    def placeholder(spec):
        dtype = keras.backend.standardize_dtype(spec.dtype)
        return tf.compat.v1.placeholder(dtype, tuple(spec.shape))

    with Graph().as_default() as graph:
        values = [placeholder(variable) for variable in variables]
        tensors = tree.map_structure(placeholder, inputs)
        outputs = _stateless(call, variables, values, tensors)
        fetched = tree.flatten(outputs)
        if differentiate:
            value_of = {id(v): x for v, x in zip(variables, values)}
            fetched += tf.gradients(
                _scalar(outputs), [value_of[id(v)] for v in differentiate]
            )
    # Only what the results need: a gradient function also makes gradients of
    # data, which nobody reads and no run computes.
    needed = _ancestors(_tensors(fetched))
    return _walk_operations(needed, graph, scope_names)


def _tensors(values):
    for value in values:
        if hasattr(value, "indices"):  # `tf.IndexedSlices`
            yield from (value.values, value.indices)
        elif value is not None:
            yield value


def _ancestors(tensors):
    """The operations that tensors depend on, in the order of the graph."""
    found, open_ends = {}, [tensor.op for tensor in tensors]
    while open_ends:
        operation = open_ends.pop()
        if operation.name in found:
            continue
        found[operation.name] = operation
        open_ends.extend(tensor.op for tensor in operation.inputs)
        open_ends.extend(operation.control_inputs)
    return sorted(found.values(), key=lambda operation: operation._id)


def _walk_operations(operations, root, scope_names):
    for operation in operations:
        names = operation.name.split("/")[:-1]
        if names and re.fullmatch(r"gradients(_\d+)?", names[0]):
            # Below it, the names of the forward operations are repeated.
            names = names[1:]
        scope = tuple(
            scope_names.get("/".join(names[: i + 1]), name)
            for i, name in enumerate(names)
        )
        macs = _operation_macs(operation)
        if macs:
            yield scope, macs
        inner = [
            [
                (scope + inner_scope, macs)
                for inner_scope, macs in _walk_operations(
                    root._get_function(name).graph.get_operations(), root, {}
                )
            ]
            for name in _called_functions(operation)
        ]
        if not any(inner):
            continue
        times = 1
        if operation.type.endswith("While"):
            times = _rounds(operation)
        if operation.type.endswith(("If", "Case")):
            inner = [_dearest(inner)]
        for found in inner:
            yield from ((where, times * macs) for where, macs in found)


def _rounds(operation):
    """How many rounds a loop has, as that of `ops.map` says it."""
    import tensorflow as tf

    # The first inputs of a loop are its counter and the most rounds it has.
    limit = tf.get_static_value(operation.inputs[1])
    if limit is None or limit.shape != () or limit < 0:
        raise _loop_error(operation.name)
    return int(limit)


def _called_functions(operation):
    for attribute in operation.node_def.attr.values():
        if attribute.HasField("func"):
            yield attribute.func.name
        for function in attribute.list.func:
            yield function.name


def _dearest(branches):
    """Of the branches of a condition one runs; the dearest counts."""
    return max(branches, key=lambda found: sum(macs for _, macs in found))


def _operation_macs(operation):
    kind = operation.type
    if kind == "MatMul":
        a, b = (_shape(tensor, operation) for tensor in operation.inputs)
        if operation.get_attr("transpose_a"):
            a = a[::-1]
        return math.prod(a) * (
            b[0] if operation.get_attr("transpose_b") else b[1]
        )
    if kind.startswith("BatchMatMul"):
        a, _ = (_shape(tensor, operation) for tensor in operation.inputs)
        inner = a[-2] if operation.get_attr("adj_x") else a[-1]
        return math.prod(_shape(operation.outputs[0], operation)) * inner
    if kind == "Einsum":
        if len(operation.inputs) < 2:
            return 0  # A transpose or a sum.
        equation = operation.get_attr("equation").decode()
        shapes = [_shape(tensor, operation) for tensor in operation.inputs]
        return _einsum_macs(equation, shapes)
    if "Conv" in kind and "2D" in kind:
        raise NotImplementedError(
            "Convolutions are not counted, matrix products are. "
            f"Received: operation `{operation.name}` of type {kind}"
        )
    return 0


def _einsum_macs(equation, shapes):
    sizes, broadcast = {}, ()
    operands = equation.split("->")[0].split(",")
    for labels, shape in zip(operands, shapes, strict=True):
        before, dots, after = labels.partition("...")
        for label, size in zip(before, shape):
            sizes[label] = size
        if dots:
            for label, size in zip(after[::-1], shape[::-1]):
                sizes[label] = size
            middle = shape[len(before) : len(shape) - len(after)]
            # The axes of "..." broadcast from the right.
            rank = max(len(middle), len(broadcast))
            left = (1,) * (rank - len(middle)) + tuple(middle)
            right = (1,) * (rank - len(broadcast)) + tuple(broadcast)
            broadcast = tuple(max(a, b) for a, b in zip(left, right))
    return math.prod(sizes.values()) * math.prod(broadcast)


def _shape(tensor, operation):
    if not tensor.shape.is_fully_defined():
        raise ValueError(
            "The shapes of a traced model must be static. Received: "
            f"{tensor.shape} in operation `{operation.name}`"
        )
    return tensor.shape.as_list()


# === JAX ===


def _walk_jax(call, variables, inputs, differentiate):
    import jax

    def spec(value):
        dtype = keras.backend.standardize_dtype(value.dtype)
        return jax.ShapeDtypeStruct(tuple(value.shape), dtype)

    def function(values, tensors):
        return _stateless(call, variables, values, tensors)

    def backward(values, tensors):
        index = {id(v): i for i, v in enumerate(variables)}
        chosen = [index[id(v)] for v in differentiate]

        def loss(some):
            replaced = list(values)
            for i, value in zip(chosen, some):
                replaced[i] = value
            return _scalar(function(replaced, tensors))

        return jax.grad(loss)([values[i] for i in chosen])

    traced = backward if differentiate else function
    jaxpr = jax.make_jaxpr(traced)(
        [spec(variable) for variable in variables],
        tree.map_structure(spec, inputs),
    )
    return _walk_jaxpr(jaxpr.jaxpr, ())


def _walk_jaxpr(jaxpr, outer):
    for equation in jaxpr.eqns:
        scope = outer + _jax_scope(equation)
        kind = equation.primitive.name
        if kind == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            inner = math.prod(left[axis] for axis in contracted)
            yield scope, math.prod(equation.outvars[0].aval.shape) * inner
        elif kind == "conv_general_dilated":
            raise NotImplementedError(
                "Convolutions are not counted, matrix products are. "
                f"Received: a convolution in {'/'.join(scope)}"
            )
        inner = [list(_walk_jaxpr(sub, scope)) for sub in _sub_jaxprs(equation)]
        if not any(inner):
            continue
        if kind == "while":
            raise _loop_error("/".join(scope))
        if kind == "cond":
            inner = [_dearest(inner)]
        times = equation.params["length"] if kind == "scan" else 1
        for found in inner:
            yield from ((path, times * macs) for path, macs in found)


def _sub_jaxprs(equation):
    for value in equation.params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item


def _jax_scope(equation):
    """The names of layers, without those of transformations (`jvp`)."""
    return tuple(
        scope.name
        for scope in equation.source_info.name_stack.stack
        if type(scope).__name__ == "Scope"
    )


def _loop_error(where):
    return NotImplementedError(
        "A loop whose number of rounds is not static holds matrix products, "
        f"which cannot be counted. Received: a loop in `{where}`"
    )
