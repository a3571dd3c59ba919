from keras_unirec.optimizers.averaged_adamw import (
    AveragedAdamW as AveragedAdamW,
)
from keras_unirec.optimizers.recipes import RECIPES as RECIPES
from keras_unirec.optimizers.recipes import adam_recipe as adam_recipe
from keras_unirec.optimizers.recipes import default_recipe as default_recipe
from keras_unirec.optimizers.recipes import paper_recipe as paper_recipe
from keras_unirec.optimizers.recipes import recipe as recipe
from keras_unirec.optimizers.row_adagrad import RowAdagrad as RowAdagrad
from keras_unirec.optimizers.row_adam import RowAdam as RowAdam
from keras_unirec.optimizers.two_group_optimizer import (
    TwoGroupOptimizer as TwoGroupOptimizer,
)
from keras_unirec.optimizers.warmup_decay import WarmupDecay as WarmupDecay
