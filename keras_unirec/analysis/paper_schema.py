"""Reference schemas: columns like those that the papers describe."""

from keras_unirec.schema import Categorical
from keras_unirec.schema import Hash
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

# Search: what the user typed, the situation, and narrower ids, so that three
# columns of an event are 64 wide.
_QUERY = {
    "query_category": (4_096, 16),
    "query_intent": (64, 8),
    "query_length_bucket": (32, 4),
    "query_frequency_bucket": (64, 8),
    "query_source": (32, 4),
    "query_language": (128, 8),
    "query_cluster": (16_384, 16),
    "is_corrected": (2, 4),
}
_SEARCH_CONTEXT = ("hour_of_day", "day_of_week", "network_type", "entry_point")
_SEARCH_NUMBERS = (
    "session_queries",
    "session_clicks",
    "minutes_since_last_query",
    "queries_since_last_click",
)
_DOCUMENT_IDS = {
    "item_id": (100_000_000, 32),
    "author_id": (50_000_000, 16),
    "music_id": (10_000_000, 16),
}
_RELEVANCE = (
    "title_match",
    "tag_match",
    "author_match",
    "semantic_match",
    "category_match",
    "recall_score",
)
_SEARCH_USER_COUNTS = ("user", "user_on_search", "user_x_query_category")
_SEARCH_CROSS_COUNTS = (
    "user_x_item",
    "user_x_author",
    "query_x_item",
    "query_x_author",
)


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

    `"hyformer"`: the HyFormer paper says "user features, query features,
    document features, cross-features, and several sequential features" of a
    video search: a long-term sequence of searches and clicks, "with an upper
    bound of 3000 adopted", and the "top-50" events of search and of the feed
    that fit the query. Side information of the first is "item ID, search
    query textnet classification, and timestamp", 64 wide. Here: 118 columns
    of the user, 50 of the query and the context, 85 of the document, 134 of
    the user or the query with the document; histories `long_term`, `search`
    and `feed`, each with three columns, 64 wide (the feed has the author in
    place of the category of the query); the label `click`. Concatenated, the
    embeddings of a candidate are 3,291 wide.

    `"unimixer"`: the UniMixer paper says "hundreds of heterogeneous features"
    (numerical, ids, crosses, sequences) of an advertisement, and the label
    whether a user returns on the next day. Here: 54 columns of the user, 12
    of the context, 51 of the item, 32 of the user with the advertiser; two
    histories of 100 events; the label `is_back`. Concatenated, with the means
    of the histories, they are 1,498 wide; what is not in the blocks has
    0.222M parameters at D = 128, where the published small sizes leave
    0.221M.

    The numbers of ids are plausible, and only the embedding parameters, which
    the papers do not count, depend on them. The schema is adapted: numbers
    have mean 0 and deviation 1.

    Args:
        name: `"mixformer"`, `"hyformer"` or `"unimixer"`. Defaults to
            `"mixformer"`.

    Returns:
        `keras_unirec.Schema`.

    Raises:
        ValueError: If there is no schema of this name.

    Reference: [MixFormer](https://arxiv.org/abs/2602.14110), 3.2, 4.1;
    [HyFormer](https://arxiv.org/abs/2601.12681), 4.1.1, 4.3.2;
    [UniMixer](https://arxiv.org/abs/2604.00590)
    """
    if name not in _SCHEMAS:
        raise ValueError(
            f"`name` must be one of {sorted(_SCHEMAS)}. Received: name={name!r}"
        )
    return _SCHEMAS[name]()


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


def _hyformer():
    def events(name, max_length, *features):
        return Sequence(
            name,
            max_length=max_length,
            features=[
                Categorical(f"{name}_item_id", share_with="item_id"),
                *features,
                Timestamp(f"{name}_time", unit="s", embedding_dim=16),
            ],
        )

    def of_query(name):
        return Categorical(
            f"{name}_query_category", share_with="query_category"
        )

    user = [
        *_hashed(_USER_IDS),
        *_identity(_USER_PROFILE),
        *_numbers(_counts(_SEARCH_USER_COUNTS)),
    ]
    query = [
        *_hashed({"query_id": (50_000_000, 32)}),
        Categorical("query_words", 262_144, 16, max_length=8),
        *_identity(_QUERY),
        *_numbers(_counts(("query",))),
    ]
    context = [
        *_identity({name: _CONTEXT[name] for name in _SEARCH_CONTEXT}),
        *_numbers(_SEARCH_NUMBERS),
    ]
    document = [
        *_hashed(_DOCUMENT_IDS),
        *_identity(_ITEM_PROFILE),
        Categorical("tags", 65_536, 16, max_length=8),
        Categorical("title_words", share_with="query_words", max_length=16),
        *_numbers(_counts(_ITEM_COUNTS)),
    ]
    cross = _numbers((*_RELEVANCE, *_counts(_SEARCH_CROSS_COUNTS)))
    return Schema(
        user=user,
        context=query + context,
        item=document + cross,
        sequences=[
            events("long_term", 3_000, of_query("long_term")),
            events("search", 50, of_query("search")),
            events(
                "feed",
                50,
                Categorical("feed_author_id", share_with="author_id"),
            ),
        ],
        labels=[Label("click")],
        request_id="request_id",
        group_id="user_id",
        timestamp=Timestamp("request_time", unit="s"),
    )


def _unimixer():
    """Advertisements: will the user be back on the day after?"""

    def events(name):
        return Sequence(
            name,
            max_length=100,
            features=[
                Categorical(f"{name}_item_id", share_with="item_id"),
                Categorical(f"{name}_category", share_with="category_2"),
                Timestamp(f"{name}_time", unit="s", embedding_dim=16),
            ],
        )

    return Schema(
        user=[
            *_hashed(_USER_IDS),
            *_identity(_USER_PROFILE),
            *_numbers(_counts(("user",))),
        ],
        context=_identity(_CONTEXT),
        item=[
            *_hashed(_ITEM_IDS),
            *_identity(_ITEM_PROFILE),
            *_numbers(_counts(("author", "user_x_author"))),
        ],
        sequences=[events("clicked"), events("converted")],
        labels=[Label("is_back")],
        request_id="request_id",
        group_id="user_id",
        timestamp=Timestamp("request_time", unit="s"),
    )


def _identity(columns):
    return [Categorical(name, n, dim) for name, (n, dim) in columns.items()]


def _hashed(columns):
    return [
        Categorical(name, n, dim, vocabulary=Hash(dtype="int64"))
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


_SCHEMAS = {
    "mixformer": _mixformer,
    "hyformer": _hyformer,
    "unimixer": _unimixer,
}
