"""Each kind of cause and finding in three sentences for a student, with the formula."""

from __future__ import annotations

EXPLANATIONS = {
    "unreached": (
        "A parameter learns from ∂L/∂w, and this exists only if the loss was computed from w. "
        "Here no path of operations leads from the parameter to the loss, so autograd never visits it and .grad stays None. "
        "Use the layer's output in the forward pass, or remove the layer."
    ),
    "detached": (
        "Autograd multiplies derivatives along the path from the loss to w: ∂L/∂w = ∂L/∂y · ∂y/∂w. "
        "detach, no_grad, .data and functions without a derivative cut this path, so everything before the cut gets no gradient. "
        "Take the cut away where the layers before it should learn."
    ),
    "dead_relu": (
        "ReLU passes a gradient only where its input is positive: ∂relu(z)/∂z = 1 if z > 0 else 0. "
        "If z = w·x + b is negative for every sample, the unit puts out 0 and w and b get exactly no gradient, "
        "so no step can wake it. "
        "Usual reasons are a very negative bias or one step with too large a learning rate."
    ),
    "saturated": (
        "Sigmoid and tanh are flat far from zero: σ'(z) = σ(z)(1 − σ(z)) and tanh'(z) = 1 − tanh²(z) are close to 0 for large |z|. "
        "A unit whose input is large for every sample multiplies the gradient by almost 0, so nothing before it learns. "
        "Bring the input's size back to about 1: smaller weights, a smaller bias, or a normalisation before it."
    ),
    "zero_weight": (
        "A layer y = W x passes the gradient back as ∂L/∂x = Wᵀ ∂L/∂y. "
        "Where W is exactly zero nothing passes, so that all layers before it stand still for that unit. "
        "One zero matrix may start like this on purpose, since it gets a gradient itself; zeros on both sides never leave zero."
    ),
    "zero_path": (
        "In a product y = a · b each factor's gradient is scaled by the other: ∂L/∂a = b · ∂L/∂y. "
        "Where a factor, an input or a dropout mask is exactly zero, what comes through is zero. "
        "Follow the signal backwards to the first place where it becomes zero."
    ),
    "nonfinite_weight": (
        "NaN and infinity spread: every sum that contains one is itself NaN or infinite, w · x + NaN = NaN. "
        "One such cell in a weight makes the output, the loss, and thereby all gradients unusable. "
        "Find where it was written, often one step with a diverged loss, and set the cell anew."
    ),
    "nonfinite_activation": (
        "A finite input can give an infinite output: exp(z) overflows float32 at z > 88.7, log 0 = −∞, and 0/0 is NaN. "
        "From there on every activation and every gradient that depends on it is lost. "
        "Use the stable form (log_softmax, logsumexp), clamp the input, or make the weights before it smaller."
    ),
    "nonfinite_gradient": (
        "A function can be finite while its derivative is not: d√x/dx = 1/(2√x) is infinite at x = 0. "
        "torch.where does not help, since 0 · ∞ = NaN when the masked branch is differentiated. "
        "Keep the input away from that point, as with clamp(min=eps) before the function."
    ),
    "vanishing": (
        "Through L layers the gradient is a product of L factors, |∂L/∂x₀| ≈ |∂L/∂x_L| · Πₗ gₗ. "
        "If each gₗ is below 1 the product falls exponentially: 0.25²⁰ is 10⁻¹², with sigmoid's largest slope 0.25. "
        "Choose gₗ ≈ 1 by He's or Xavier's rule, or add normalisation or residual paths."
    ),
    "exploding": (
        "Through L layers the gradient is a product of L factors, |∂L/∂x₀| ≈ |∂L/∂x_L| · Πₗ gₗ. "
        "If each gₗ is above 1 the product grows exponentially, and one step throws the weights far away. "
        "Choose gₗ ≈ 1 by He's or Xavier's rule, normalise, or clip the gradient."
    ),
    "unused_rows": (
        "An embedding looks up rows: y = E[token], so ∂L/∂E is nonzero only in rows that the batch asks for. "
        "Rows of tokens that do not occur get no gradient in this step. "
        "Other batches will use other rows; this is no fault."
    ),
    "invariant": (
        "BatchNorm subtracts the mean, and (z + b) − mean(z + b) = z − mean(z): a bias before it has no effect. "
        "Its gradient is zero by construction, up to rounding. "
        "It costs nothing but memory; bias=False removes it."
    ),
    "symmetric_units": (
        "Two units with the same incoming weights compute the same value, and if they are also used alike they "
        "get the same gradient: "
        "∂L/∂wᵢ = δᵢ x with δᵢ = δⱼ. "
        "Then they stay equal after every step, and a layer of n such units can express no more than one. "
        "Random initial weights break the symmetry."
    ),
    "duplicate_units": (
        "Two units with the same incoming weights compute the same value h = f(w · x), so one of them adds nothing. "
        "Their gradients ∂L/∂wᵢ = δᵢ x are parallel, so they part slowly or not at all. "
        "Draw one of the two anew."
    ),
    "scale_low": (
        "A layer with weights of standard deviation σ and fan_in n multiplies the signal's size by g = σ√n. "
        "He's rule for ReLU is g = √2, Xavier's and LeCun's is g ≈ 1; with g far below that the signal, and the "
        "gradient on its way "
        "back, shrink by g at this layer and by gᴸ over L of them. "
        "Multiply the weights by the missing factor."
    ),
    "scale_high": (
        "A layer with weights of standard deviation σ and fan_in n multiplies the signal's size by g = σ√n. "
        "He's rule for ReLU is g = √2, Xavier's and LeCun's is g ≈ 1; with g far above that activations and gradients grow, "
        "sigmoids saturate and the first steps overshoot; behind a normalisation the weight just learns g² times more slowly. "
        "Divide the weights by the surplus factor."
    ),
    "rank_collapse": (
        "A matrix W = Σₖ σₖ uₖ vₖᵀ of rank r lets only r directions of the input through. "
        "A random n × n matrix has rank n; where nearly all σₖ are 0 most units carry the same few numbers, and "
        "∂L/∂x = Wᵀδ lies in those few directions too. "
        "Draw the matrix anew, or as an orthogonal one (Saxe et al. 2014)."
    ),
    "zero_norm_scale": (
        "A normalisation puts out y = γ · x̂ + β. "
        "With γ = 0 its output is the constant β: no signal passes, and no gradient either, since ∂L/∂x̂ = γ · ∂L/∂y. "
        "γ = 1 is the neutral start; γ = 0 is meant only as the last step of a residual branch, where the skip carries the signal."
    ),
    "not_a_parameter": (
        "Module.parameters() finds what was registered: an nn.Parameter or an nn.Module assigned to an attribute. "
        "A plain tensor, or a Python list of layers, is not found: no optimizer trains it, state_dict does not "
        "save it, .to() does not move it. "
        "Use nn.Parameter, nn.ParameterList or nn.ModuleList, or register_buffer for a constant."
    ),
    "shape_broken": (
        "y = x Wᵀ + b needs W of shape [out, in]: the inner sizes must agree. "
        "weight.data = other takes a tensor of any shape without a word, and the next forward fails or broadcasts. "
        "Write values in place (weight.copy_(...) under no_grad), which checks the shape."
    ),
    "optimizer_stale": (
        "An optimizer holds the tensors that it was given, not their names: w ← w − η ∂L/∂w acts on these objects. "
        "After module.weight = nn.Parameter(...) the model uses a new object, and the optimizer goes on with "
        "the old one, whose gradient stays None. "
        "Put the new one in its place, or make the optimizer after the model is complete."
    ),
    "optimizer_missing": (
        "Only what is in the optimizer's param_groups moves: w ← w − η ∂L/∂w for each w listed there. "
        "This parameter gets a gradient, and no step uses it. "
        "Add it with optimizer.add_param_group, or freeze it with requires_grad_(False) if it should stay."
    ),
    "frozen": (
        "With requires_grad=False autograd computes no ∂L/∂w for this parameter. "
        "Gradients still pass through the layer to those before it. "
        "This is how a pretrained part is kept; requires_grad_(True) lets it learn."
    ),
}


def explanation(kind: str) -> str:
    """Three sentences for a student about a kind of cause or finding; "" for a kind that is not known."""
    return EXPLANATIONS.get(kind, "")
