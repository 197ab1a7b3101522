compiler: str
scatters_fast: bool

def levels() -> tuple[str, ...]: ...
