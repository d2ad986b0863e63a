package serve

import (
	"fmt"
	"net/http"
	"time"
)

// Access is a request that was answered.
type Access struct {
	Time      time.Time // when it came
	Duration  time.Duration
	Client    string // its address
	User      string // "" where nobody had to say
	Method    string
	URI       string // as the client wrote it
	Status    int
	Bytes     int64 // of the body that were sent
	Complete  bool  // false where the client was cut off or went away
	UserAgent string
}

func newAccess(start time.Time, r *http.Request, answer *response, complete bool) Access {
	return Access{
		Time: start, Duration: time.Since(start),
		Client: r.RemoteAddr, User: answer.user,
		Method: r.Method, URI: r.RequestURI, Status: answer.statusOf(), Bytes: answer.sent, Complete: complete,
		UserAgent: r.UserAgent(),
	}
}

// String returns a line of text without an end of line, whatever the client has sent:
// all that it has chosen is quoted, and cut.
func (a Access) String() string {
	user, end := "-", "complete"
	if a.User != "" {
		user = fmt.Sprintf("%.64q", a.User)
	}
	if !a.Complete {
		end = "broken"
	}
	return fmt.Sprintf("%s %s %s %.16q %.1000q %d %d %s %.3fs %.200q",
		a.Time.UTC().Format(time.RFC3339), a.Client, user, a.Method, a.URI, a.Status, a.Bytes, end, a.Duration.Seconds(), a.UserAgent)
}
