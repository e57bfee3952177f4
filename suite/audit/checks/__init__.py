"""How each property is examined: generators of observations, one function a property."""
