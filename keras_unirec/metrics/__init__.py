from keras_unirec.metrics.auc import GroupedAUC as GroupedAUC
from keras_unirec.metrics.auc import auc as auc
from keras_unirec.metrics.auc import gauc as gauc
from keras_unirec.metrics.auc import grouped_auc as grouped_auc
from keras_unirec.metrics.auc import query_auc as query_auc
from keras_unirec.metrics.auc import uauc as uauc
from keras_unirec.metrics.log_loss import calibration as calibration
from keras_unirec.metrics.log_loss import logloss as logloss
from keras_unirec.metrics.log_loss import (
    normalized_entropy as normalized_entropy,
)
