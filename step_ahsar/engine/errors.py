"""What can go wrong while a run goes on."""


class NonFiniteLoss(RuntimeError):
    """Training diverged: a loss or a weight became NaN or infinite. The last good checkpoint is kept.

    Attributes:
        epoch: counted from 1.
        step: of the epoch, counted from 1.
    """

    def __init__(self, what: str, epoch: int, step: int) -> None:
        super().__init__(f"{what} at epoch {epoch}, step {step}")
        self.epoch, self.step = epoch, step
