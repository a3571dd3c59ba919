from keras_unirec.analysis.attention import (
    attention_weights as attention_weights,
)
from keras_unirec.analysis.attention import plot_attention as plot_attention
from keras_unirec.analysis.closed_form import (
    hyformer_closed_form as hyformer_closed_form,
)
from keras_unirec.analysis.closed_form import (
    mixformer_closed_form as mixformer_closed_form,
)
from keras_unirec.analysis.closed_form import (
    rankmixer_closed_form as rankmixer_closed_form,
)
from keras_unirec.analysis.closed_form import (
    unimixer_closed_form as unimixer_closed_form,
)
from keras_unirec.analysis.mixing import mixing_matrices as mixing_matrices
from keras_unirec.analysis.mixing import plot_mixing as plot_mixing
from keras_unirec.analysis.paper_schema import paper_schema as paper_schema
from keras_unirec.analysis.plots import plot_history as plot_history
from keras_unirec.analysis.profile import Profile as Profile
from keras_unirec.analysis.profile import profile as profile
