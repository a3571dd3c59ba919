import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_unirec")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak`, then linear decay over exactly one run.

    With `W` warm-up steps out of `total_steps`, step `t` (from 0) uses
    `peak * (t + 1) / W` while `t < W`, then falls linearly from `peak` to
    `end`, which it reaches at `t = total_steps`. Later steps stay at `end`.

    How long a run is, only `fit` knows, so the length is not an argument:
    `RankingModel.fit` calls `plan(total_steps, start_step)` before the first
    step, where `start_step` is the iteration count of the optimizer (a second
    `fit` starts its own warm-up and decay). Before the first `plan`, or with
    an unknown length, the schedule warms up and stays at `peak`.

    The plan is plain numbers that a traced train step holds as constants: a
    step traced before `plan` has to be traced again.

    Args:
        peak: float. Highest learning rate. Defaults to `2e-3`.
        warmup: float in `[0, 1)`: fraction of the run; or int: number of
            steps. Defaults to `0.05`.
        end: float. Learning rate at the end of the run. Defaults to `0.0`.
        default_warmup_steps: int. Warm-up steps while the length is unknown
            and `warmup` is a fraction. Defaults to `100`.
        total_steps: optional int. Set by `plan`. Defaults to `None`.
        start_step: int. Set by `plan`. Defaults to `0`.

    Example:
    ```python
    schedule = keras_unirec.optimizers.WarmupDecay(peak=2e-3)
    schedule.plan(total_steps=670)
    optimizer = keras.optimizers.AdamW(schedule)
    ```
    """

    def __init__(
        self,
        peak=2e-3,
        warmup=0.05,
        end=0.0,
        default_warmup_steps=100,
        total_steps=None,
        start_step=0,
    ):
        super().__init__()
        if peak <= 0:
            raise ValueError(f"`peak` must be positive. Received: peak={peak}")
        if end < 0 or end > peak:
            raise ValueError(
                "`end` must be between 0 and `peak`. "
                f"Received: end={end}, peak={peak}"
            )
        fraction = isinstance(warmup, float)
        if warmup < 0 or (fraction and warmup >= 1):
            raise ValueError(
                "`warmup` must be a float in [0, 1), a fraction of the run, "
                "or an int >= 0, a number of steps. "
                f"Received: warmup={warmup}"
            )
        if default_warmup_steps < 0:
            raise ValueError(
                "`default_warmup_steps` must not be negative. Received: "
                f"default_warmup_steps={default_warmup_steps}"
            )
        self.peak = peak
        self.warmup = warmup
        self.end = end
        self.default_warmup_steps = default_warmup_steps
        self.total_steps = None
        self.start_step = 0
        self.plan(total_steps, start_step)

    def plan(self, total_steps, start_step=0):
        """Fixes the run that the schedule is spread over.

        Args:
            total_steps: int, number of steps of the run, or `None` where the
                length is unknown.
            start_step: int. Iteration count at its first step. Defaults to
                `0`.

        Returns:
            bool: whether this changed the schedule, so that functions traced
            with it have to be traced again.
        """
        if total_steps is not None and total_steps < 1:
            raise ValueError(
                "`total_steps` must be positive, or None if unknown. "
                f"Received: total_steps={total_steps}"
            )
        if start_step < 0:
            raise ValueError(
                "`start_step` must not be negative. "
                f"Received: start_step={start_step}"
            )
        before = (self.total_steps, self.start_step)
        self.total_steps = None if total_steps is None else int(total_steps)
        self.start_step = int(start_step)
        return before != (self.total_steps, self.start_step)

    @property
    def warmup_steps(self):
        """int. Warm-up steps under the current plan."""
        if not isinstance(self.warmup, float):
            steps = self.warmup
        elif self.total_steps is None:
            return self.default_warmup_steps
        else:
            steps = round(self.warmup * self.total_steps)
        # At least one step of decay, whatever the warm-up.
        if self.total_steps is not None:
            steps = min(steps, self.total_steps - 1)
        return steps

    def __call__(self, step):
        step = ops.cast(step, "float32") - float(self.start_step)
        warmup_steps = self.warmup_steps
        rate = ops.minimum((step + 1.0) / max(warmup_steps, 1), 1.0) * self.peak
        if self.total_steps is None:
            return rate
        left = float(self.total_steps) - step
        left = ops.clip(left / (self.total_steps - warmup_steps), 0.0, 1.0)
        decay = self.end + (self.peak - self.end) * left
        return ops.minimum(rate, decay)

    def get_config(self):
        return {
            "peak": self.peak,
            "warmup": self.warmup,
            "end": self.end,
            "default_warmup_steps": self.default_warmup_steps,
            "total_steps": self.total_steps,
            "start_step": self.start_step,
        }
