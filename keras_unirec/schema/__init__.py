"""What the columns of a table mean: the one description of the data.

A `Schema` names the columns, says what each holds and to which side of the
model it belongs. `Schema.adapt` learns vocabularies and normalization; readers,
models and the exported graph take everything else from here.
"""

from keras_unirec.schema.categorical import Categorical as Categorical
from keras_unirec.schema.encoded import GAP_BOUNDARIES as GAP_BOUNDARIES
from keras_unirec.schema.encoded import EmbeddingSpec as EmbeddingSpec
from keras_unirec.schema.encoded import Encoded as Encoded
from keras_unirec.schema.item_table import ItemTable as ItemTable
from keras_unirec.schema.label import Label as Label
from keras_unirec.schema.numerical import Numerical as Numerical
from keras_unirec.schema.schema import Schema as Schema
from keras_unirec.schema.sequence import Sequence as Sequence
from keras_unirec.schema.timestamp import Timestamp as Timestamp
from keras_unirec.schema.vocabulary import Hash as Hash
from keras_unirec.schema.vocabulary import Identity as Identity
from keras_unirec.schema.vocabulary import Lookup as Lookup
