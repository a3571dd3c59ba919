"""Ranking models that read a history and cross features in one backbone."""

from keras_unirec import analysis as analysis
from keras_unirec import applications as applications
from keras_unirec import data as data
from keras_unirec import layers as layers
from keras_unirec import metrics as metrics
from keras_unirec import optimizers as optimizers
from keras_unirec import serving as serving
from keras_unirec.schema import Categorical as Categorical
from keras_unirec.schema import Hash as Hash
from keras_unirec.schema import Identity as Identity
from keras_unirec.schema import ItemTable as ItemTable
from keras_unirec.schema import Label as Label
from keras_unirec.schema import Lookup as Lookup
from keras_unirec.schema import Numerical as Numerical
from keras_unirec.schema import Schema as Schema
from keras_unirec.schema import Sequence as Sequence
from keras_unirec.schema import Timestamp as Timestamp
from keras_unirec.scoring import evaluate as evaluate
from keras_unirec.scoring import predict as predict
from keras_unirec.version import __version__ as __version__
