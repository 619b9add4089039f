// Prints messages as etcd's raft library encodes them, as lines "name hex", for
// tests/raft/peer/test_codec.c. The library up to 3.6 writes every number; run with its version 3.6.
package main

import (
	"encoding/hex"
	"fmt"

	pb "go.etcd.io/raft/v3/raftpb"
)

type marshaler interface{ Marshal() ([]byte, error) }

func show(name string, m marshaler) {
	b, err := m.Marshal()
	if err != nil {
		panic(err)
	}
	fmt.Println(name, hex.EncodeToString(b))
}

func main() {
	show("link heartbeat", &pb.Message{Type: pb.MsgHeartbeat})
	show("vote", &pb.Message{Type: pb.MsgVote, To: 0x8211f1d0f64f3269, From: 0x91bc3c398fb3c146,
		Term: 7, LogTerm: 6, Index: 300, Context: []byte("CampaignTransfer")})
	show("append", &pb.Message{Type: pb.MsgApp, To: 2, From: 1, Term: 5, LogTerm: 4, Index: 10, Commit: 9,
		Entries: []pb.Entry{
			{Index: 11, Term: 5},
			{Index: 12, Term: 5, Data: []byte("hello")},
			{Index: 13, Term: 5, Type: pb.EntryConfChange, Data: []byte{}},
			{Index: 14, Term: 5, Type: pb.EntryConfChangeV2, Data: []byte{0, 1, 2}},
		}})
	show("reject", &pb.Message{Type: pb.MsgAppResp, To: 1, From: 2, Term: 5, LogTerm: 3, Index: 10,
		Reject: true, RejectHint: 8, Commit: 1 << 40})
	show("read index", &pb.Message{Type: pb.MsgReadIndex, To: 1, From: 2,
		Entries: []pb.Entry{{Data: []byte{1, 2, 3, 4, 5, 6, 7, 8}}}})
	show("snapshot", &pb.Message{Type: pb.MsgSnap, To: 3, From: 1, Term: 5, Vote: 1, Snapshot: &pb.Snapshot{
		Data: []byte("{}"),
		Metadata: pb.SnapshotMetadata{Index: 100, Term: 4, ConfState: pb.ConfState{
			Voters: []uint64{1, 2, 300}, Learners: []uint64{4}, VotersOutgoing: []uint64{1, 2},
			LearnersNext: []uint64{2}, AutoLeave: true}}}})
	show("snapshot empty", &pb.Message{Type: pb.MsgSnap, To: 3, From: 1, Term: 5, Snapshot: &pb.Snapshot{}})
	show("entry", &pb.Entry{Index: 1<<62 - 1, Term: 1 << 35, Data: []byte("k")})
	show("noop entry", &pb.Entry{Index: 1, Term: 1})
}
