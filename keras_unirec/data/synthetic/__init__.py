"""A simulated click log: what there is, what decides a click, the columns."""

from keras_unirec.data.synthetic.click_log import (
    SyntheticClickLog as SyntheticClickLog,
)
from keras_unirec.data.synthetic.click_log import (
    synthetic_click_log as synthetic_click_log,
)
