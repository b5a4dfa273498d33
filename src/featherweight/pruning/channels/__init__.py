"""Channel pruning: channels that really leave the network, which gets smaller and faster by itself."""

from featherweight.pruning.channels.groups import ChannelGroup, Member, channel_group
from featherweight.pruning.channels.prune import METHODS, PrunedChannels, prune_channels
from featherweight.pruning.channels.reconstruction import least_squares
from featherweight.pruning.channels.resize import explained_by_pruning, resize
from featherweight.pruning.channels.samples import Sample, gram
from featherweight.pruning.channels.selection import at_random, greedy, lasso, lowest

__all__ = [
    "METHODS",
    "ChannelGroup",
    "Member",
    "PrunedChannels",
    "Sample",
    "at_random",
    "channel_group",
    "explained_by_pruning",
    "gram",
    "greedy",
    "lasso",
    "least_squares",
    "lowest",
    "prune_channels",
    "resize",
]
