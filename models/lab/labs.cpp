#include "models/lab/labs.h"

#include "models/lab/completion.h"
#include "models/lab/double_well.h"
#include "models/lab/gossip_rounds.h"
#include "models/lab/moments.h"
#include "models/lab/sinc.h"
#include "models/lab/stability.h"

namespace sinew::train::lab {

const std::vector<Lab>& labs() {
  static const std::vector<Lab> all = {
      {"stability", "ADMM against EASGD with workers in turn: where a round is unstable (Zhang et al. 2015, section 4)",
       stability},
      {"moments", "mean and variance of the center under noise against Lemma 7.1 (Zhang et al. 2015)", moments},
      {"double_well", "two workers on both sides of a hill: a trap while rho < 2/3 (Zhang 2016, section 5.3)",
       double_well},
      {"sinc", "leaders against elastic averaging and plain gradient descent among rings (Teng et al. 2019)", sinc},
      {"completion", "the same on matrix completion, where elastic averaging stays short of the solution", completion},
      {"gossip", "how much disagreement a round of gossip leaves, against its expectation", gossip_rounds},
  };
  return all;
}

}  // namespace sinew::train::lab
