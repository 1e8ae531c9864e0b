package hub

// Only the goroutine that has claimed a member, the claimant, may send to it. A goroutine
// that finds a member claimed does not wait. It leaves word that there is news (stateNews)
// and moves on, and the claimant looks again before it releases the claim. So whatever was
// published before the word was left is sent, by one goroutine or the other.
//
// The states of a member and what changes them:
//
//	idle → busy   claim succeeds
//	busy → news   claim fails and leaves word
//	news → news   claim fails; the word has been left
//	news → busy   releaseClaim fails: the claimant must look again
//	busy → idle   releaseClaim succeeds
//
// A new member is busy: the goroutine that opens its session is the claimant. When its
// session has ended, nobody needs the claim any longer, and it is never released.
const (
	stateIdle uint32 = iota
	stateBusy
	stateNews
)

// claim claims m for the calling goroutine, or leaves word for the claimant. It reports
// whether the caller has the claim.
func (m *Member) claim() bool {
	for {
		switch m.state.Load() {
		case stateIdle:
			if m.state.CompareAndSwap(stateIdle, stateBusy) {
				return true
			}
		case stateBusy:
			if m.state.CompareAndSwap(stateBusy, stateNews) {
				return false
			}
		default:
			return false
		}
	}
}

// releaseClaim releases the caller's claim, unless there is news. It reports whether it
// did. If not, the caller still has the claim, and must deliver before it tries again.
func (m *Member) releaseClaim() bool {
	if m.state.CompareAndSwap(stateBusy, stateIdle) {
		return true
	}
	m.state.Store(stateBusy)
	return false
}

// releaseOrDeliver releases the caller's claim. If there is news, it hands the claim over
// to a new goroutine instead, which delivers. In both cases the caller has it no longer.
func (m *Member) releaseOrDeliver() {
	if !m.releaseClaim() {
		go m.deliverAll(statusDone)
	}
}
