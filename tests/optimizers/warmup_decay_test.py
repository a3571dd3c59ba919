import keras
import numpy as np

from keras_unirec import optimizers
from tests.test_case import TestCase


def rates(schedule, steps):
    return [float(keras.ops.convert_to_numpy(schedule(s))) for s in steps]


class WarmupDecayTest(TestCase):
    def test_without_a_plan_it_warms_up_and_stays(self):
        schedule = optimizers.WarmupDecay(1.0, default_warmup_steps=4)
        self.assertAllClose(
            rates(schedule, [0, 1, 3, 4, 10_000]), [0.25, 0.5, 1.0, 1.0, 1.0]
        )

    def test_planned(self):
        schedule = optimizers.WarmupDecay(2.0, warmup=0.2, end=0.5)
        assert schedule.plan(10)
        assert not schedule.plan(10)
        assert schedule.warmup_steps == 2
        expected = [1.0, 2.0] + [2.0 - 1.5 * i / 8 for i in range(9)] + [0.5]
        self.assertAllClose(rates(schedule, range(12)), expected)

    def test_a_second_run_starts_anew(self):
        schedule = optimizers.WarmupDecay(1.0, warmup=0.1)
        schedule.plan(20)
        first = rates(schedule, range(20))
        assert schedule.plan(20, start_step=20)
        self.assertAllClose(rates(schedule, range(20, 40)), first)
        assert min(first) > 0

    def test_warmup_as_a_number_of_steps(self):
        schedule = optimizers.WarmupDecay(1.0, warmup=5)
        schedule.plan(100)
        assert schedule.warmup_steps == 5
        schedule.plan(3)
        assert schedule.warmup_steps == 2
        self.assertAllClose(rates(schedule, range(4)), [0.5, 1.0, 1.0, 0.0])
        schedule.plan(None)
        assert schedule.warmup_steps == 5
        one_step = optimizers.WarmupDecay(1.0, warmup=0.5)
        one_step.plan(1)
        self.assertAllClose(rates(one_step, [0, 1]), [1.0, 0.0])

    def test_the_plan_is_serialized(self):
        schedule = optimizers.WarmupDecay(0.1, warmup=0.3, end=0.01)
        schedule.plan(50, start_step=7)
        copy = keras.saving.deserialize_keras_object(
            keras.saving.serialize_keras_object(schedule)
        )
        assert copy.get_config() == schedule.get_config()
        self.assertAllClose(rates(copy, range(60)), rates(schedule, range(60)))

    def test_integer_tensor_steps(self):
        schedule = optimizers.WarmupDecay(1.0)
        schedule.plan(100)
        step = keras.ops.convert_to_tensor(np.int32(50))
        rate = schedule(step)
        assert keras.backend.standardize_dtype(rate.dtype) == "float32"

    def test_errors(self):
        schedule = optimizers.WarmupDecay()
        for regex, function in [
            ("`peak`", lambda: optimizers.WarmupDecay(peak=0.0)),
            ("`end`", lambda: optimizers.WarmupDecay(peak=1.0, end=2.0)),
            ("`warmup`", lambda: optimizers.WarmupDecay(warmup=1.0)),
            ("`warmup`", lambda: optimizers.WarmupDecay(warmup=-1)),
            ("`total_steps`", lambda: schedule.plan(0)),
            ("`start_step`", lambda: schedule.plan(5, -1)),
        ]:
            self.assertRaisesRegex(ValueError, regex, function)
