import math

from hypothesis import given
from hypothesis import strategies as st

from byol.recipe.imagenet import imagenet_1000
from byol.schedule import cosine_tau, learning_rate
from byol.training.timeline import Timeline


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_tau_starts_at_its_base_ends_at_exactly_one_and_never_falls(total: int, base: float) -> None:
    # 1 - (1 - base) rounds once at 1.0: an ulp of 1.
    assert math.isclose(cosine_tau(0, total, base), base, abs_tol=2.3e-16)
    assert cosine_tau(total, total, base) == 1.0
    values = [cosine_tau(step, total, base) for step in range(0, total + 1, max(1, total // 50))]
    assert values == sorted(values)


def test_tau_halfway_lies_halfway_between_base_and_one() -> None:
    assert math.isclose(cosine_tau(50, 100, 0.9), 0.95, rel_tol=1e-15)


def test_learning_rate_rises_linearly_from_zero_then_falls_as_a_cosine() -> None:
    rates = [learning_rate(step, 1000, 100, 2.0) for step in range(1000)]
    assert rates[0] == 0.0
    assert all(math.isclose(rates[step], 2.0 * step / 100, rel_tol=1e-15) for step in range(100))
    assert rates[100] == 2.0
    assert math.isclose(rates[550], 1.0, rel_tol=1e-12)  # half of the cosine is half of the peak
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert 0.0 < rates[-1] < 2.0 * 1e-5


def test_without_warm_up_the_first_step_runs_at_the_peak() -> None:
    assert learning_rate(0, 10, 0, 0.5) == 0.5


def test_the_official_schedule_of_a_thousand_epochs_is_met() -> None:
    """The official preset at batch 4096: base 0.2, 3127 warm-up steps of 312,784, peak 3.2."""
    timeline = Timeline(imagenet_1000(), 1_281_167)
    total, warmup, peak = 312_784, 3_127, 0.2 * 4096 / 256
    assert (timeline.total_steps, timeline.warmup_steps) == (total, warmup)
    for step in (0, 1, 3126, 3127, 150_000, 312_783):
        # The official code, transcribed (utils/schedules.py:27-43).
        scaled = step / warmup * peak
        cosine = peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        expected = scaled if step < warmup else cosine
        assert math.isclose(timeline.lr(step), expected, rel_tol=1e-12)
        ema = 1 - (1 - 0.996) * (math.cos(math.pi * step / total) + 1) / 2  # :46-51
        assert math.isclose(timeline.tau(step), ema, rel_tol=1e-12)
