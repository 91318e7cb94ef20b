// Package bucket owns the way to object stores: it opens one from the
// configuration that Thanos and its tools use, so that a file written for them
// serves here. It must not know what is kept in it.
package bucket

import (
	"fmt"
	"os"

	"github.com/go-kit/log"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/filesystem"
	"github.com/thanos-io/objstore/providers/s3"
	"go.yaml.in/yaml/v2"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// config is Thanos' objstore.config-file.
type config struct {
	Type   objstore.ObjProvider `yaml:"type"`
	Config any                  `yaml:"config"`
	Prefix string               `yaml:"prefix"`
}

// OpenFile opens the store that a file names.
func OpenFile(path string) (objstore.Bucket, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	b, err := Open(raw)
	if err != nil {
		return nil, fmt.Errorf("open bucket of %s: %w", path, err)
	}
	return b, nil
}

// Open opens the store of a configuration: {type: S3 | FILESYSTEM, config: …,
// prefix: …}. fault.ErrInvalid when it is no such.
func Open(raw []byte) (objstore.Bucket, error) {
	var c config
	if err := yaml.UnmarshalStrict(raw, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrInvalid, err)
	}
	inner, err := yaml.Marshal(c.Config)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrInvalid, err)
	}
	var b objstore.Bucket
	switch c.Type {
	case objstore.S3:
		b, err = s3.NewBucket(log.NewNopLogger(), inner, "crowsnest", nil)
	case objstore.FILESYSTEM:
		b, err = filesystem.NewBucketFromConfig(inner)
	default:
		return nil, fmt.Errorf("type must be S3 or FILESYSTEM, not %q: %w", c.Type, fault.ErrInvalid)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", fault.ErrInvalid, err)
	}
	if c.Prefix != "" {
		b = objstore.NewPrefixedBucket(b, c.Prefix)
	}
	return b, nil
}
