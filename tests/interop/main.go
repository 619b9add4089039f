// The etcd server itself, built from its published module: the second oracle of the differential
// test and the fellow member of mixed clusters on machines that have Go.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
