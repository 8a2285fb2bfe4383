// The transforms, one file each. `u` is the update (at first the gradient g), `theta` the parameters, `lr` the
// learning rate after the schedule; the chain ends with theta -= lr * u.
#pragma once

#include <memory>

#include "optim/optimizer.h"

namespace sinew::optim {

using TransformPtr = std::unique_ptr<Transform>;

// u *= min(1, max_norm / ||u||), the Euclidean norm over all parameters. Pascanu, Mikolov, Bengio 2013.
TransformPtr clip_by_norm(double max_norm);

// u += decay * theta (L2 regularisation; the gradient of decay/2 ||theta||^2). At Sutskever's look-ahead point where
// the chain has one, as mpiT does.
TransformPtr weight_decay(double decay);

// theta *= 1 - lr * decay, independent of the gradient. Loshchilov and Hutter 2019 (PyTorch's scaling by lr).
TransformPtr decoupled_decay(double decay);

// v = momentum * v + u; u = v. Polyak's heavy ball in PyTorch's form: lr multiplies v when it is used, so a change of
// lr acts on the whole velocity at once.
TransformPtr heavy_ball(double momentum);

// v = momentum * v + u; u = u + momentum * v. PyTorch's nesterov=True: no look-ahead, gradient at theta.
TransformPtr pytorch_nesterov(double momentum);

// v = momentum * v - lr * g(theta + momentum * v); theta += v. Sutskever et al. 2013; EASGD paper (arXiv:1412.6651v8)
// Algorithm 2, EAMSGD. before_gradient moves theta to theta + momentum * v. Because
//   theta + v_new = (theta + momentum * v_old) - lr * g,
// the chain's last link alone leads from the look-ahead point to the new theta: nothing has to be moved back, and
// there is no rounding of an undo. Must be the last transform that changes u.
TransformPtr look_ahead_momentum(double momentum);

}  // namespace sinew::optim
