import keras

from keras_unirec.serving.state_lengths import state_lengths


def tensor(*shape, dtype="float32"):
    return keras.KerasTensor(shape, dtype)


def test_one_history():
    state = {
        "state_user": tensor(None, 8),
        "state_keys": tensor(None, 2, None, 4),
        "state_mask": tensor(None, None, dtype="bool"),
    }
    assert state_lengths(state) == [{"state_keys": 2, "state_mask": 1}]


def test_histories_of_their_own():
    state = {
        "state_keys_liked": tensor(None, None, 4),
        "state_mask_liked": tensor(None, None, dtype="bool"),
        "state_keys_watched": tensor(None, None, 4),
        "state_mask_watched": tensor(None, None, dtype="bool"),
    }
    assert state_lengths(state) == [
        {"state_keys_liked": 1, "state_mask_liked": 1},
        {"state_keys_watched": 1, "state_mask_watched": 1},
    ]


def test_no_history():
    assert state_lengths({"state_user": tensor(None, 8)}) == []
