package engine

import (
	"container/list"
	"slices"
)

// queued are the rounds that wait, in the order in which they came. Those of each source
// are known, so that a round costs the same however many senders there are.
type queued struct {
	rounds list.List                     // of round
	of     map[sourceKey][]*list.Element // in the same order, up to maxWaiting of each
}

// add takes in a round. Of a source that has more than maxWaiting then it leaves out the
// oldest: when the engine cannot follow, the newest matter, in whatever order they come.
func (q *queued) add(r round) (left round, full bool) {
	if q.of == nil {
		q.of = map[sourceKey][]*list.Element{}
	}
	mine := append(q.of[r.source], q.rounds.PushBack(r))
	if full = len(mine) > maxWaiting; full {
		oldest := 0
		for i, w := range mine {
			if w.Value.(round).at.Before(mine[oldest].Value.(round).at) {
				oldest = i
			}
		}
		left = q.rounds.Remove(mine[oldest]).(round)
		mine = slices.Delete(mine, oldest, oldest+1)
	}
	q.of[r.source] = mine
	return left, full
}

// take empties it.
func (q *queued) take() []round {
	rounds := make([]round, 0, q.rounds.Len())
	for w := q.rounds.Front(); w != nil; w = w.Next() {
		rounds = append(rounds, w.Value.(round))
	}
	*q = queued{}
	return rounds
}
