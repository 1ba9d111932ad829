"""Memory: which real images of past classes are kept."""

from jaxcil.memory.herding import herding as herding
