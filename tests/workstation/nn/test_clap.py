"""CLAP's audio tower: positions and biases, as transformers has them and for smaller windows."""

from __future__ import annotations

import torch
from tiny_models import tiny_config

from edgeprune.nn.clap import cropped_bias, position_index


def test_clap_keeps_the_bias_of_every_distance_that_its_smaller_window_has() -> None:
    table = torch.arange(15.0 * 15.0)[:, None].expand(-1, 2)
    small, index = cropped_bias(table, 4), position_index(4)
    assert small.shape == (49, 2)
    for a in range(16):
        for b in range(16):
            rows, columns = a // 4 - b // 4, a % 4 - b % 4
            assert small[index[a, b], 0] == table[(rows + 7) * 15 + columns + 7, 0]


def test_the_index_of_positions_is_transformers_own() -> None:
    from transformers.models.clap.modeling_clap import ClapAudioSelfAttention

    theirs = ClapAudioSelfAttention(tiny_config("clap_audio_model"), 8, 2, 6)
    torch.testing.assert_close(position_index(6), theirs.relative_position_index)
