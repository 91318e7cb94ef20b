// Package nearest owns which known word a misspelt one was meant to be. It must
// not know what the words name.
package nearest

import "strings"

// Word gives the known word that is most like the given one, upper and lower
// case alike, when at most so many letters have to be added, taken out or
// changed; else it is empty. Of equals the first one.
func Word(given string, known []string, most int) string {
	best, bestDistance := "", most+1
	for _, k := range known {
		if n := distance(strings.ToLower(given), strings.ToLower(k)); n < bestDistance {
			best, bestDistance = k, n
		}
	}
	return best
}

// distance is the Levenshtein distance of two short words, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, cost)
		}
	}
	return row[len(b)]
}
