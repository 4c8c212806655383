"""Image methods: staged brain age, synthesis, contrastive learning, maps, pruning."""
