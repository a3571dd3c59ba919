from keras_unirec.data.from_pandas import from_pandas as from_pandas
from keras_unirec.data.from_parquet import from_parquet as from_parquet
from keras_unirec.data.kuairand import kuairand as kuairand
from keras_unirec.data.movielens import movielens_1m as movielens_1m
from keras_unirec.data.synthetic import SyntheticClickLog as SyntheticClickLog
from keras_unirec.data.synthetic import (
    synthetic_click_log as synthetic_click_log,
)


def __getattr__(name):
    # The one name that needs TensorFlow at import: it is a `tf.Module`.
    if name == "Preprocessing":
        from keras_unirec.data.preprocessing import Preprocessing

        return Preprocessing
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
