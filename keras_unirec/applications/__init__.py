"""Ranking models, loaded by name for the columns of a schema."""

from keras_unirec.applications.hyformer import HyFormer as HyFormer
from keras_unirec.applications.mixformer import MixFormer as MixFormer
from keras_unirec.applications.onetrans import OneTrans as OneTrans
from keras_unirec.applications.ranking_model import Outputs as Outputs
from keras_unirec.applications.ranking_model import RankingModel as RankingModel
from keras_unirec.applications.rankmixer import (
    LongerRankMixer as LongerRankMixer,
)
from keras_unirec.applications.rankmixer import RankMixer as RankMixer
from keras_unirec.applications.registry import list_models as list_models
from keras_unirec.applications.registry import load as load
from keras_unirec.applications.registry import register_model as register_model
from keras_unirec.applications.stacked import Stacked as Stacked
from keras_unirec.applications.ui_mixformer import UIMixFormer as UIMixFormer
from keras_unirec.applications.unimixer import UniMixer as UniMixer
from keras_unirec.applications.unimixer import UniMixerLite as UniMixerLite
