"""Sphinx extension: where NumPy and CuPy document a name. The site is built without the network: rules instead of inventories."""
import numpy as np
from docutils import nodes

NUMPY, CUPY = "https://numpy.org/doc/stable/reference", "https://docs.cupy.dev/en/stable/reference"
PLACES = {  # what does not have a page of its own under generated/
    "numpy.random.Generator": f"{NUMPY}/random/generator.html",
    "numpy.random.default_rng": f"{NUMPY}/random/generator.html",
    "numpy.random.RandomState": f"{NUMPY}/random/legacy.html",
    "numpy.random.SeedSequence": f"{NUMPY}/random/bit_generators/generated/numpy.random.SeedSequence.html",
}
ON_DEVICES = {"asnumpy", "get_array_module", "fuse", "ElementwiseKernel", "ReductionKernel", "RawKernel", "RawModule",
              "cuda.Device", "cuda.Stream", "cuda.Event"}  # CuPy's, which NumPy does not have


def address(
    name,  # full name, "numpy.linalg.norm"
):         # -> its page, or None
    "The page and the place on it where NumPy or CuPy explain a name."
    package, _, inside = name.partition(".")
    if package == "numpy":
        return numpy_address(name, inside)
    if package == "cupy" and (inside in ON_DEVICES or is_function(found(inside)) or inside == "ndarray"):
        return f"{CUPY}/generated/{name}.html"
    return None


def numpy_address(
    name,    # "numpy.float32"
    inside,  # "float32"
):           # -> its page, or None
    "Scalars, constants, random numbers and methods of ufuncs lie apart; the rest has pages of its own."
    thing, owner = found(inside), found(inside.rpartition(".")[0])
    if name in PLACES:
        return f"{PLACES[name]}#{name}"
    if isinstance(thing, type) and issubclass(thing, np.generic):
        return f"{NUMPY}/arrays.scalars.html#numpy.{thing.__name__}"
    if isinstance(thing, float) or inside == "newaxis":
        return f"{NUMPY}/constants.html#{name}"
    if isinstance(owner, np.ufunc):
        return f"{NUMPY}/generated/numpy.ufunc.{inside.rpartition('.')[2]}.html"
    if is_function(thing) or isinstance(thing, type) or inside in ("c_", "r_", "s_"):
        return f"{NUMPY}/{'random/' * inside.startswith('random.')}generated/{name}.html"
    return None


def found(
    inside,  # "linalg.norm"
):           # -> what NumPy has there, or None
    "Look a name up in NumPy."
    thing = np
    for part in inside.split(".") if inside else []:
        thing = getattr(thing, part, None) if not part.startswith("_") else None
    return thing if inside else None


def is_function(thing):
    "A function, a ufunc, or a method."
    return callable(thing) and not isinstance(thing, type)


def on_missing(app, env, node, content):
    "Sphinx's missing-reference event: names of the reference that are not ours."
    uri = address(node.get("reftarget", ""))
    return nodes.reference("", "", content, refuri=uri, internal=False, reftitle=node["reftarget"]) if uri else None


def setup(app):
    "Called by Sphinx."
    app.connect("missing-reference", on_missing)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
