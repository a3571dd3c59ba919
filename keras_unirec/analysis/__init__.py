from keras_unirec.analysis.closed_form import (
    mixformer_closed_form as mixformer_closed_form,
)
from keras_unirec.analysis.paper_schema import paper_schema as paper_schema
from keras_unirec.analysis.plots import plot_history as plot_history
from keras_unirec.analysis.profile import Profile as Profile
from keras_unirec.analysis.profile import profile as profile
