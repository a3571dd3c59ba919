"""Reference schemas: columns like those that the papers describe."""

from keras_unirec.schema import Categorical
from keras_unirec.schema import Label
from keras_unirec.schema import Numerical
from keras_unirec.schema import Schema
from keras_unirec.schema import Sequence
from keras_unirec.schema import Timestamp

# What a user does with a video, and over which windows it is counted.
_ACTIONS = (
    "impression",
    "play",
    "finish",
    "skip",
    "like",
    "comment",
    "share",
    "follow",
)
_WINDOWS = ("1h", "1d", "7d", "30d")

_USER_IDS = {
    "user_id": (100_000_000, 64),
    "device_id": (100_000_000, 32),
}
_USER_PROFILE = {
    "age_bucket": (16, 4),
    "gender": (4, 4),
    "country": (256, 8),
    "province": (512, 8),
    "city": (4_096, 16),
    "language": (128, 8),
    "device_brand": (1_024, 8),
    "device_model": (16_384, 16),
    "operating_system": (16, 4),
    "app_version": (1_024, 8),
    "install_channel": (1_024, 8),
    "register_days_bucket": (64, 8),
    "active_days_bucket": (64, 8),
    "active_degree": (16, 4),
    "follow_count_bucket": (64, 8),
    "fan_count_bucket": (64, 8),
    "friend_count_bucket": (64, 8),
    "is_author": (2, 4),
    "is_new_user": (2, 4),
    "interest_cluster": (4_096, 16),
}
_CONTEXT = {
    "hour_of_day": (24, 4),
    "day_of_week": (7, 4),
    "is_holiday": (2, 4),
    "tab": (32, 8),
    "network_type": (8, 4),
    "carrier": (64, 4),
    "refresh_type": (16, 4),
    "entry_point": (64, 8),
    "battery_bucket": (16, 4),
    "volume_bucket": (16, 4),
    "screen_brightness_bucket": (16, 4),
    "is_headset": (2, 4),
}
_CONTEXT_NUMBERS = (
    "session_length",
    "session_impressions",
    "session_finishes",
    "session_skips",
    "minutes_since_last_session",
    "position_in_session",
    "refresh_index",
    "network_speed",
)
_ITEM_IDS = {
    "item_id": (100_000_000, 64),
    "author_id": (50_000_000, 32),
    "music_id": (10_000_000, 32),
}
_ITEM_PROFILE = {
    "category_1": (64, 8),
    "category_2": (1_024, 16),
    "category_3": (16_384, 16),
    "duration_bucket": (64, 8),
    "upload_age_bucket": (64, 8),
    "resolution": (32, 4),
    "orientation": (4, 4),
    "language_of_item": (128, 8),
    "city_of_item": (4_096, 16),
    "source_of_item": (64, 8),
    "visual_cluster": (16_384, 16),
    "audio_cluster": (4_096, 16),
    "text_cluster": (16_384, 16),
    "author_level": (32, 4),
    "author_fan_bucket": (64, 8),
    "is_advertisement": (2, 4),
}
# What is counted, in each window: the user at large and in situations like
# this one, the candidate, and the user with the candidate.
_USER_COUNTS = ("user", "user_on_device", "user_on_tab", "user_at_hour")
_ITEM_COUNTS = ("item", "author")
_CROSS_COUNTS = ("user_x_item", "user_x_author", "user_x_category_2")


def paper_schema(name="mixformer"):
    """The reference schema that sizes of a paper are counted on.

    No paper publishes its features. Dense parameters include the "small
    modules in input projection and the task networks", so a size needs
    columns to be counted on; these are ours, and nothing in them is random.

    `"mixformer"`: the MixFormer paper says "over 300 features ...
    categorical, numerical, and cross features derived from user profiles,
    item attributes, and contextual information", and actions "represented by
    an action identifier, action type, timestamp, and side attributes", with a
    sequence length of 512. Here: 150 user columns (ids, profile, activity
    counts), 20 of the context, 85 of the item (ids, attributes, two of them
    multi-valued, counts), 96 counts of the user with the item, its author and
    its category; one history of 512 actions with 10 columns; the labels
    `finish` and `skip`. Concatenated, the embeddings of a candidate are 3,001
    wide (`D_ns`), about half of them the user's, so that the paper's rule for
    the user-item decoupled heads gives its ratio of 1:1.

    The numbers of ids are plausible, and only the embedding parameters, which
    the papers do not count, depend on them. The schema is adapted: numbers
    have mean 0 and deviation 1.

    Args:
        name: `"mixformer"`. Defaults to `"mixformer"`.

    Returns:
        `keras_unirec.Schema`.

    Raises:
        ValueError: If there is no schema of this name.

    Reference: [MixFormer](https://arxiv.org/abs/2602.14110), 3.2, 4.1
    """
    if name not in _SCHEMAS:
        raise ValueError(
            f"`name` must be one of {sorted(_SCHEMAS)}. Received: name={name!r}"
        )
    return _SCHEMAS[name]()


def paper_schema_names():
    """Names that `paper_schema` knows."""
    return tuple(_SCHEMAS)


def _mixformer():
    user = [
        *_hashed(_USER_IDS),
        *_identity(_USER_PROFILE),
        *_numbers(_counts(_USER_COUNTS)),
    ]
    context = [*_identity(_CONTEXT), *_numbers(_CONTEXT_NUMBERS)]
    item = [
        *_hashed(_ITEM_IDS),
        *_identity(_ITEM_PROFILE),
        Categorical("tags", 65_536, 16, max_length=8),
        Categorical("title_words", 262_144, 16, max_length=16),
        *_numbers(_counts(_ITEM_COUNTS + _CROSS_COUNTS)),
    ]
    actions = Sequence(
        "actions",
        max_length=512,
        features=[
            Categorical("action_item_id", share_with="item_id"),
            Categorical("action_type", 32, 8),
            Timestamp("action_time", unit="s", embedding_dim=16),
            Categorical("action_author_id", share_with="author_id"),
            Categorical("action_category_1", share_with="category_1"),
            Categorical("action_category_2", share_with="category_2"),
            Categorical("action_duration_bucket", share_with="duration_bucket"),
            Categorical("action_tab", share_with="tab"),
            Numerical("action_play_seconds", mean=0.0, std=1.0),
            Numerical("action_play_ratio", mean=0.0, std=1.0),
        ],
    )
    return Schema(
        user=user,
        context=context,
        item=item,
        sequences=[actions],
        labels=[Label("finish"), Label("skip")],
        request_id="request_id",
        group_id="user_id",
        timestamp=Timestamp("request_time", unit="s"),
    )


def _identity(columns):
    return [Categorical(name, n, dim) for name, (n, dim) in columns.items()]


def _hashed(columns):
    return [
        Categorical(name, n, dim, vocabulary="hash", dtype="int64")
        for name, (n, dim) in columns.items()
    ]


def _numbers(names):
    return [
        Numerical(name, embedding_dim=8, mean=0.0, std=1.0) for name in names
    ]


def _counts(subjects):
    return [
        f"{subject}_{action}_count_{window}"
        for subject in subjects
        for action in _ACTIONS
        for window in _WINDOWS
    ]


_SCHEMAS = {"mixformer": _mixformer}
