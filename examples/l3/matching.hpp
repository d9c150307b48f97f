/// @file  examples/l3/matching.hpp: how well files of a collection go with a given one, by the features of both.
#pragma once
#include <l3/core/context.hpp>
#include <memory>
#include <span>
#include <vector>

#include "engine.hpp"
#include "feature_rows.hpp"

namespace l3::program {

/// How well each row of a collection goes with a row of a query: scores are comparable for one query.
class judge {
 public:
  virtual ~judge() = default;
  virtual void operator()(std::span<float const> query, std::span<float> scores) const = 0;
};

/// Of the same sense: the cosine of both, each feature's z-score by the collection. Of the other: the log-odds, by the
/// own head of the network, then an L³-Net, that they belong together; rows are features of pool4, global. Keeps a
/// reference to the team.
std::unique_ptr<judge const> make_judge(thread_team& team, chosen_network const& network, modality query,
                                        modality searched, feature_rows const& all);
/// What its scores say; of log-odds the probability.
char const* score_name(modality query, modality searched);

/// A file's row that goes best with a query.
struct finding {
  std::size_t file = 0, row = 0;  ///< the row within the file
  float score = 0;
};

/// Of each file that has rows the one that goes best with any row of a query, in the order of the files.
/// Errors  numeric_error: a score that is not finite.
std::vector<finding> best_of_files(judge const& by, feature_rows const& asked, std::size_t query,
                                   feature_rows const& rows);

}  // namespace l3::program
