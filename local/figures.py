"""Figures of a run."""


class Figures(list[str]):
    """Figures that are printed as soon as they are known: a run may be ended, or fail, before it has them all."""

    def add(self, figure: str) -> None:
        self.append(figure)
        print(figure, flush=True)
